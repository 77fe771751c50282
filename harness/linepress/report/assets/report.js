"use strict";
// Sorting and filtering are comforts: every table of the page is complete without this script.
(function () {
  function value(cell) {
    var s = cell.getAttribute("data-sort");
    return s !== null ? parseFloat(s) : cell.textContent.trim().toLowerCase();
  }
  function compare(a, b) {
    var na = typeof a === "number", nb = typeof b === "number";
    if (na !== nb) return na ? -1 : 1;
    return na ? a - b : a < b ? -1 : a > b ? 1 : 0;
  }
  function makeSortable(table, onSort) {
    var heads = table.tHead.rows[0].cells;
    Array.prototype.forEach.call(heads, function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () {
        var first = head.classList.contains("num") ? "descending" : "ascending";
        var now = head.getAttribute("aria-sort");
        var next = now === null ? first : now === "ascending" ? "descending" : "ascending";
        Array.prototype.forEach.call(heads, function (h) { h.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", next);
        onSort(column, next === "ascending" ? 1 : -1);
      });
    });
  }
  function sortRows(table, column, direction) {
    Array.prototype.forEach.call(table.tBodies, function (body) {
      var rows = Array.prototype.filter.call(body.rows, function (r) { return !r.classList.contains("group"); });
      rows.map(function (r, i) { return { row: r, key: value(r.cells[column]), i: i }; })
        .sort(function (a, b) {
          // Absent values stay last in both directions.
          if ((typeof a.key === "number") !== (typeof b.key === "number")) return compare(a.key, b.key);
          return direction * compare(a.key, b.key) || a.i - b.i;
        })
        .forEach(function (x) { body.appendChild(x.row); });
    });
  }
  document.querySelectorAll("table[data-sortable]").forEach(function (table) {
    makeSortable(table, function (column, direction) { sortRows(table, column, direction); });
  });

  function bytes(base64) {
    var raw = atob(base64.trim()), out = new Uint8Array(raw.length);
    for (var i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }
  function element(name, text, className) {
    var e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  }
  function unfold(place, data, plainTable) {
    var PAGE = 200, page = 0, total = data.values.length ? (data.values[0].v || data.values[0].i).length : 0;
    var order = Array.from({ length: total }, function (_, i) { return i; }), shown = order;
    function get(column, row) { var c = data.values[column]; return c.v ? c.v[row] : c.w[c.i[row]]; }
    var tools = element("div", undefined, "tools");
    var input = element("input");
    input.type = "search";
    input.placeholder = "filter: words that a row must contain";
    input.setAttribute("aria-label", "Filter all cases");
    var back = element("button", "previous"), forth = element("button", "next"), where = element("span");
    [input, back, forth, where].forEach(function (e) { tools.appendChild(e); });
    var box = element("div", undefined, "table"), table = element("table"), head = element("tr");
    data.columns.forEach(function (c) { c.numeric = c.digits >= 0; });
    data.columns.forEach(function (c) {
      var th = element("th", c.label, c.numeric ? "num" : "");
      th.scope = "col";
      head.appendChild(th);
    });
    table.createTHead().appendChild(head);
    var body = table.createTBody();
    box.appendChild(table);
    function draw() {
      body.textContent = "";
      shown.slice(page * PAGE, page * PAGE + PAGE).forEach(function (row) {
        var tr = element("tr");
        data.columns.forEach(function (c, k) {
          var v = get(k, row);
          tr.appendChild(element("td", v === null ? "–" : c.numeric ? v.toLocaleString("en", { minimumFractionDigits: c.digits, maximumFractionDigits: c.digits }) : v,
            c.numeric ? "num" : v === "NO" || v === "failed" ? "bad" : ""));
        });
        body.appendChild(tr);
      });
      var from = shown.length ? page * PAGE + 1 : 0, to = Math.min(shown.length, page * PAGE + PAGE);
      where.textContent = from + " to " + to + " of " + shown.length.toLocaleString("en") + " cases";
      back.disabled = page === 0;
      forth.disabled = to >= shown.length;
    }
    function filter() {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      var texts = data.columns.map(function (c, k) { return c.numeric ? -1 : k; }).filter(function (k) { return k >= 0; });
      shown = !words.length ? order : order.filter(function (row) {
        var line = texts.map(function (k) { return get(k, row); }).join(" ").toLowerCase();
        return words.every(function (w) { return line.indexOf(w) >= 0; });
      });
      page = 0;
      draw();
    }
    input.addEventListener("input", filter);
    back.addEventListener("click", function () { page--; draw(); });
    forth.addEventListener("click", function () { page++; draw(); });
    makeSortable(table, function (column, direction) {
      order = order.slice().sort(function (a, b) {
        var x = get(column, a), y = get(column, b);
        if (x === null || y === null) return (x === null) - (y === null);
        return direction * compare(x, y) || a - b;
      });
      filter();
    });
    place.appendChild(tools);
    place.appendChild(box);
    place.hidden = false;
    if (plainTable) plainTable.hidden = true;
    draw();
  }
  document.querySelectorAll(".packed").forEach(function (place) {
    if (typeof DecompressionStream === "undefined") return;
    var source = document.getElementById(place.id + "-gz");
    var stream = new Blob([bytes(source.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
    new Response(stream).json().then(function (data) {
      var plain = place.previousElementSibling;
      var note = plain && plain.classList.contains("tablenote") ? plain : null;
      if (note) { plain = note.previousElementSibling; note.hidden = true; }
      unfold(place, data, plain);
    });
  });
})();
