/** A row of a table. It is a component of its own, so that only rows of which something changed are drawn anew. */
import { type VNode, defineComponent, h } from "vue";
import { type Drawn, isNumeric, type Column } from "./columns";

/** The height of a row, as in table.css. */
export const ROW = 32;

/** By so many columns, the first ones, one knows a row that flies past. */
const NAMING = 2;

/** What a page draws in a cell itself, by the column's key. */
export type Cells = Readonly<Record<string, ((scope: { row: unknown }) => VNode[]) | undefined>>;

interface Properties {
  readonly drawn: Drawn<unknown>;
  /** Its place among all rows. */
  readonly at: number;
  /** The tab key comes here. */
  readonly reached: boolean;
  readonly opens: boolean;
  readonly columns: readonly Pick<Column<never>, "key" | "kind">[];
  readonly cells: Cells;
  /** It passes too quickly for more to be read than what it is. */
  readonly flies: boolean;
}

export const UiRow = defineComponent(
  (properties: Properties) => () => {
    const { drawn, at, reached, opens, columns, cells, flies } = properties;
    const content = columns.map(({ key, kind }, place) => {
      const attributes = { key, role: "cell", class: isNumeric(kind) ? "number" : undefined };
      if (flies && place >= NAMING) return h("td", attributes);
      const own = cells[key];
      if (own) return h("td", attributes, own({ row: drawn.row }));
      const cell = drawn.cell(place);
      return h("td", attributes, [cell?.number, cell?.unit ? h("span", { class: "unit" }, cell.unit) : null]);
    });
    const attributes = { role: "row", "data-at": at, "aria-rowindex": at + 2, tabindex: reached ? 0 : -1, class: opens ? "opens" : undefined };
    return h("tr", { ...attributes, style: { transform: `translateY(${at * ROW}px)` } }, content);
  },
  { props: ["drawn", "at", "reached", "opens", "columns", "cells", "flies"] },
);
