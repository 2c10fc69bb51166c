"""Devices, configs, checkpoints, metrics files and preemption."""
