"use strict";
// Panels enlarge, and one slider changes how far all maps cover their images.
const dialog = document.querySelector("dialog");
const stage = dialog.querySelector(".stage");
const caption = dialog.querySelector(".caption");
const panels = [...document.querySelectorAll("button.enlarge")];
let shown = 0;

function show(place) {
  shown = (place + panels.length) % panels.length;
  const panel = panels[shown];
  stage.replaceChildren(panel.firstElementChild.cloneNode(true));
  const text = panel.parentElement.querySelector("figcaption").cloneNode(true);
  caption.replaceChildren(...text.childNodes);
  dialog.classList.toggle("over", Boolean(stage.querySelector(".over")));
}

for (const article of document.querySelectorAll("article")) {
  const photo = article.querySelector("img");
  for (const over of article.querySelectorAll(".over")) {
    over.style.backgroundImage = `url("${photo.src}")`;
  }
}
panels.forEach((panel, place) => {
  panel.disabled = false;
  panel.addEventListener("click", () => {
    show(place);
    dialog.showModal();
  });
});
const sliders = document.querySelectorAll(".opacity");
for (const slider of sliders) {
  slider.hidden = false;
  slider.querySelector("input").addEventListener("input", ({ target }) => {
    document.documentElement.style.setProperty("--map", target.value / 100);
    for (const other of sliders) other.querySelector("input").value = target.value;
  });
}
// The link that had the focus is gone with its caption: the page hears the keys.
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (dialog.open && step && event.target.type !== "range") show(shown + step);
});
dialog.addEventListener("click", (event) => {
  const { step } = event.target.dataset;
  if (step) show(shown + Number(step));
  // A link into the page leads behind the dialog.
  if (event.target === dialog || event.target.closest('a[href^="#"]')) dialog.close();
});
