// Tables sort by the column whose heading is pressed; without this they stay in the order they were written in.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const numbers = [...body.rows].some((row) => row.cells[column].dataset.v !== undefined);
      const order = (a, b) => {
        if (!numbers) return (down ? -1 : 1) * key(a).localeCompare(key(b));
        const [x, y] = [a, b].map((row) => Number(row.cells[column].dataset.v ?? NaN));
        // What has no number is last in either direction.
        return Number.isNaN(x) - Number.isNaN(y) || (down ? y - x : x - y);
      };
      const rows = [...body.rows].sort(order);
      body.append(...rows);
    });
  });
}
