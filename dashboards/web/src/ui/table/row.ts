/** A row of a table. It is a component of its own, so that only rows of which something changed are drawn anew. */
import { type VNodeChild, defineComponent, h } from "vue";
import { type Drawn, isNumeric, type Column } from "./columns";

/** What a page draws in a cell itself, by the column's key. */
export type Cells = Readonly<Record<string, ((scope: { row: unknown }) => VNodeChild) | undefined>>;

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
      return h("td", { key, class: isNumeric(kind) ? "number" : undefined }, own === undefined ? [cell?.number, cell?.unit ? h("span", { class: "unit" }, cell.unit) : null] : [own]);
    });
    return h("tr", { "data-at": at, "aria-rowindex": at + 2, tabindex: reached ? 0 : -1, class: opens ? "opens" : undefined }, content);
  },
  { props: ["drawn", "at", "reached", "opens", "columns", "cells"] },
);
