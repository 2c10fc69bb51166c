"""How parts are found, where they start from, and what is fitted in closed form."""
