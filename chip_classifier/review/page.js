// What preview.html lets one do: filter, sort, enlarge, tick and export the chips on it. It reads all
// that it needs from the page, asks for nothing else, and puts names in as text only.
"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const run = one("#run > details");
  if (matchMedia("(max-width: 34rem)").matches) run.open = false;
  const form = one(".tools");
  if (!form) return;

  const classNames = new Map(all("#class option, #true option").map(option => [option.value, option.text]));
  const sheets = one("#sheets"), flat = one(".flat"), view = one("#view"), map = one(".map");
  const low = Number(sheets.dataset.low), high = Number(sheets.dataset.high);
  const field = id => document.getElementById(id);
  const chips = all("#sheets li").map((item, index) => {
    const sheet = item.closest(".sheet"), shown = one("figcaption > bdi", item).textContent;
    return {
      item, index, list: item.parentElement, image: one("img", item), ticked: false,
      name: item.dataset.n ? JSON.parse(item.dataset.n) : shown, shown,
      class: sheet.id.slice(1), className: one("h3 bdi", sheet).textContent,
      truth: item.dataset.t, trueName: one("em bdi", item)?.textContent ?? one("h3 bdi", sheet).textContent,
      certainty: Number(item.dataset.v), certaintyShown: one("b", item).textContent, mark: item.dataset.m,
    };
  });
  const chipOf = new Map(chips.map(chip => [chip.item, chip]));
  let visible = chips, placed = "";

  // Where a slider stands. Halved, so that the difference of two finite numbers is finite too.
  const at = id => {
    const share = field(id).value / 100;
    return 2 * (low / 2 * (1 - share) + high / 2 * share);
  };

  const matches = () => {
    const text = field("name").value.toLowerCase(), of = field("class").value;
    const truth = field("true")?.value ?? "", ticked = field("only-ticked").checked;
    const from = field("from").value > 0 ? at("from") : -Infinity;
    const to = field("to").value < 100 ? at("to") : Infinity;
    const isTrue = chip => !truth || chip.truth === truth
      || truth === "right" && chip.truth === chip.class
      || truth === "wrong" && chip.truth !== undefined && chip.truth !== chip.class;
    return chip => (!of || chip.class === of) && isTrue(chip)
      && chip.certainty >= from && chip.certainty <= to && (!ticked || chip.ticked)
      && (!text || chip.name.toLowerCase().includes(text) || chip.shown.toLowerCase().includes(text));
  };

  const orders = {
    least: (a, b) => a.certainty - b.certainty || a.index - b.index,
    most: (a, b) => b.certainty - a.certainty || a.index - b.index,
    name: (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.index - b.index),
  };

  // Chips lie in their sheets or, in another order, in one flat list.
  const place = () => {
    const wanted = field("order").value, order = orders[wanted];
    if (wanted === placed) return order;
    placed = wanted;
    if (order) flat.append(...[...chips].sort(order).map(chip => chip.item));
    else for (const chip of chips) chip.list.append(chip.item);
    flat.hidden = !order;
    sheets.hidden = Boolean(order);
    return order;
  };

  const update = () => {
    const fits = matches(), order = place();
    visible = order ? chips.filter(fits).sort(order) : chips.filter(fits);
    const isVisible = new Set(visible);
    for (const chip of chips) chip.item.hidden = !isVisible.has(chip);
    const has = new Set(visible.map(chip => chip.list));
    for (const group of all(".group", sheets)) group.hidden = !has.has(one("ul", group));
    for (const sheet of all(".sheet", sheets)) sheet.hidden = !all(".group", sheet).some(group => !group.hidden);
    if (visible.length < chips.length) for (const more of all("details", sheets)) more.open = true;
    const ticked = chips.filter(chip => chip.ticked).length;
    field("shown").textContent = `${visible.length.toLocaleString("en")} of ${chips.length.toLocaleString("en")} chips shown, ${ticked} ticked`;
    field("export").disabled = !ticked;
    for (const id of ["from", "to"]) field(`${id}-value`).textContent = Number(at(id).toPrecision(3));
    const of = field("class").value;
    if (map) for (const layer of all("path[data-c]", map)) layer.classList.toggle("dim", Boolean(of) && layer.dataset.c !== of);
  };

  const tick = (chip, ticked) => {
    chip.ticked = one(".tick input", chip.item).checked = ticked;
    chip.item.classList.toggle("ticked", ticked);
    update();
  };

  for (const chip of chips) {
    const label = document.createElement("label"), box = document.createElement("input");
    label.className = "tick";
    box.type = "checkbox";
    box.setAttribute("aria-label", `Tick ${chip.shown}`);
    box.addEventListener("change", () => tick(chip, box.checked));
    label.append(box);
    one("figcaption", chip.item).prepend(label);
    chip.image.tabIndex = 0;
    chip.image.setAttribute("role", "button");
    chip.image.setAttribute("aria-label", `Enlarge ${chip.shown}, classified as ${chip.className}`);
  }

  // Enlarging: a dialog, with the chip's place ringed on the map behind it.
  let open = null;
  const image = new Image();
  const ring = map && document.createElementNS("http://www.w3.org/2000/svg", "circle");
  const show = chip => {
    open = chip;
    image.src = chip.image.src;
    image.alt = chip.image.alt;
    image.className = chip.image.naturalWidth < 200 ? "pixels" : "";
    const known = chip.truth === undefined ? "" : chip.truth === chip.class ? " It is right." : ` It is ${chip.trueName}.`;
    one("p", view).textContent = `${chip.name}: ${chip.className}, certainty ${chip.certaintyShown}.${known}`;
    one("input", view).checked = chip.ticked;
    if (ring && chip.mark) {
      const [x, y] = chip.mark.split(" ");
      for (const [name, value] of [["cx", x], ["cy", y], ["r", 16]]) ring.setAttribute(name, value);
      map.append(ring);
    } else ring?.remove();
    view.prepend(image);
    if (!view.open) view.showModal();
  };
  const step = by => {
    const next = visible[visible.indexOf(open) + by];
    if (next) show(next);
  };
  const chosen = event => event.target.matches("#chips img[role=button]") && chipOf.get(event.target.closest("li"));
  one("#chips").addEventListener("click", event => {
    const chip = chosen(event);
    if (chip) show(chip);
  });
  one("#chips").addEventListener("keydown", event => {
    const chip = (event.key === "Enter" || event.key === " ") && chosen(event);
    if (!chip) return;
    event.preventDefault();
    show(chip);
  });
  for (const button of all("button[type=button]", view)) button.addEventListener("click", () => step(Number(button.value)));
  view.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  one("input", view).addEventListener("change", event => tick(open, event.target.checked));
  view.addEventListener("close", () => open.image.focus());
  view.addEventListener("click", event => {
    if (event.target === view) view.close();
  });

  // Links: a cell of the confusion matrix chooses its chips, a class shows its sheet.
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#']");
    if (!link) return;
    if (link.dataset.t) {
      form.reset();
      field("true").value = link.dataset.t;
      field("class").value = link.dataset.c;
      // Where no chip of the class is shown, it is not among the options.
      if (field("class").value !== link.dataset.c) field("class").value = "";
      update();
    } else if (/^#c\d+$/.test(link.hash)) {
      form.reset();
      update();
    }
  });

  field("export").addEventListener("click", () => {
    const ticked = chips.filter(chip => chip.ticked).map(chip => ({
      name: chip.name,
      ...(chip.item.dataset.n === "" && { shortened: true }),
      class: classNames.get(chip.class) ?? chip.className,
      certainty: chip.certainty,
      ...(chip.truth !== undefined && { true_class: chip.trueName }),
    }));
    const facts = { archive: one("h1").textContent, chips: ticked };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${JSON.stringify(facts, null, 1)}\n`], { type: "application/json" }));
    link.download = "ticked.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });

  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  update();
})();
