/** A row of a table. It is a component of its own, so that only rows of which something changed are drawn anew. */
import { type VNode, defineComponent, h } from "vue";
import { type Drawn, isNumeric, type Column } from "./columns";

/** The height of a row, as in table.css. */
export const ROW = 32;

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
}

export const UiRow = defineComponent(
  (properties: Properties) => () => {
    const { drawn, at, reached, opens, columns, cells } = properties;
    const content = columns.map(({ key, kind }, place) => {
      const cell = drawn.cells[place];
      const own = cells[key]?.({ row: drawn.row });
      return h("td", { key, role: "cell", class: isNumeric(kind) ? "number" : undefined }, own ?? [cell?.number, cell?.unit ? h("span", { class: "unit" }, cell.unit) : null]);
    });
    const attributes = { role: "row", "data-at": at, "aria-rowindex": at + 2, tabindex: reached ? 0 : -1, class: opens ? "opens" : undefined };
    return h("tr", { ...attributes, style: { transform: `translateY(${at * ROW}px)` } }, content);
  },
  { props: ["drawn", "at", "reached", "opens", "columns", "cells"] },
);
