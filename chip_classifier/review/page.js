// What preview.html lets one do: filter, sort, enlarge, brighten, tick, correct and export the chips on
// it. It reads all that it needs from the page, asks for nothing else, and puts names in as text only.
"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const run = one("#run > details");
  if (matchMedia("(max-width: 34rem)").matches) run.open = false;
  const form = one(".tools");
  if (!form) return;

  const wholeName = element => element.dataset.n && JSON.parse(element.dataset.n);
  const classNames = new Map(all("#corrected option").map(option => [option.value, wholeName(option) || option.text]));
  const sheets = one("#sheets"), flat = one(".flat"), view = one("#view"), map = one(".map");
  const low = Number(sheets.dataset.low), high = Number(sheets.dataset.high);
  const field = id => document.getElementById(id);
  const chips = all("#sheets li").map((item, index) => {
    const sheet = item.closest(".sheet"), shown = one("figcaption > bdi", item).textContent;
    return {
      item, index, list: item.parentElement, image: one("img", item), ticked: false,
      name: wholeName(item) || shown, shown, corrected: "",
      class: sheet.id.slice(1), className: classNames.get(sheet.id.slice(1)) ?? one("h3 bdi", sheet).textContent,
      truth: item.dataset.t, trueName: classNames.get(item.dataset.t) ?? one("em bdi", item)?.textContent,
      values: (item.dataset.p ?? "").split(" ").filter(Boolean).map(part => part.split(":")),
      certainty: Number(item.dataset.v), certaintyShown: one("b", item).textContent, mark: item.dataset.m,
    };
  });
  const chipOf = new Map(chips.map(chip => [chip.item, chip]));
  const total = Number(sheets.dataset.chips).toLocaleString("en");
  let visible = chips, placed = "", here = null; // here: the chips of a place on the map, if one was chosen

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
      && (!here || here.includes(chip)) && chip.certainty >= from && chip.certainty <= to && (!ticked || chip.ticked)
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
    const corrected = chips.filter(chip => chip.corrected).length;
    field("shown").textContent = `${visible.length.toLocaleString("en")} of ${total} chips shown, ${ticked} ticked${corrected ? `, ${corrected} corrected` : ""}`;
    field("export").disabled = !ticked;
    field("export-corrections").disabled = !corrected;
    field("here").hidden = !here;
    document.documentElement.style.setProperty("--bright", field("brightness").value);
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
    field("values").textContent = chip.values.map(([index, value]) => `${classNames.get(index) ?? index} ${value}`).join(", ");
    one("input", view).checked = chip.ticked;
    field("corrected").value = chip.corrected;
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
    if (event.target.matches("select")) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  one("input", view).addEventListener("change", event => tick(open, event.target.checked));
  field("corrected").addEventListener("change", event => {
    open.corrected = event.target.value;
    one("strong", open.item)?.remove();
    if (open.corrected) {
      const note = document.createElement("strong"), name = document.createElement("bdi");
      name.textContent = event.target.selectedOptions[0].text;
      note.append("corrected: ", name);
      one("figcaption", open.item).append(note);
    }
    update();
  });
  view.addEventListener("close", () => open.image.focus());
  view.addEventListener("click", event => {
    if (event.target === view) view.close();
  });

  // The map: a ring for each place with chips on this page leads to them. One of them is reached with
  // the Tab key, the others from there with the arrows.
  const places = new Map();
  const size = map && (one(".grid", map) ? 5 : 1); // a square is 5 units wide
  for (const chip of map ? chips.filter(chip => chip.mark) : []) {
    const key = chip.mark.split(" ").map(value => Math.floor(value / size)).join(" ");
    places.set(key, [...places.get(key) ?? [], chip]);
  }
  const shape = (name, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const links = [...places.values()].map((found, index) => {
    const [x, y] = found[0].mark.split(" "), more = found.length > 5 ? `, and ${found.length - 5} more` : "";
    const told = found.slice(0, 5).map(chip => `${chip.shown}: ${chip.className}`).join(", ") + more;
    const link = shape("a", { href: "#chips", tabindex: index ? -1 : 0, "aria-label": told },
      shape("circle", { cx: x, cy: y, r: Math.max(7, map.getAttribute("stroke-width") / 2 + 2) }, shape("title", {}, told)));
    link.addEventListener("click", event => {
      event.preventDefault();
      if (found.length === 1) return show(found[0]);
      form.reset();
      setTimeout(() => {
        here = found;
        update();
        field("shown").scrollIntoView();
      });
    });
    return link;
  });
  map?.append(...links);
  map?.addEventListener("keydown", event => {
    const next = links[links.indexOf(event.target) + { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key]];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  for (const note of all(".scripted")) note.hidden = !links.length;

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

  const download = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  field("export").addEventListener("click", () => {
    const ticked = chips.filter(chip => chip.ticked).map(chip => ({
      name: chip.name,
      ...(chip.item.dataset.n === "" && { shortened: true }),
      class: chip.className,
      certainty: chip.certainty,
      ...(chip.truth !== undefined && { true_class: chip.trueName }),
    }));
    const facts = { archive: one("h1").textContent, chips: ticked };
    download("ticked.json", "application/json", `${JSON.stringify(facts, null, 1)}\n`);
  });

  // RFC 4180: what needs it is in quotation marks, lines end with CRLF.
  const quoted = text => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  field("export-corrections").addEventListener("click", () => {
    const corrected = chips.filter(chip => chip.corrected);
    const lines = corrected.map(chip => [chip.name, chip.className, classNames.get(chip.corrected)]);
    const table = [["chip", "class_given", "class_corrected"], ...lines];
    download("corrections.csv", "text/csv", table.map(line => `${line.map(quoted).join(",")}\r\n`).join(""));
  });

  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(() => { here = null; update(); }));
  field("here").addEventListener("click", () => { here = null; update(); });
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  update();
})();
