/** Which element shows which row while a list scrolls: one that its row has left takes the next. To fill an element costs a fraction of making one. */

export interface Shown<Row> {
  readonly row: Row;
  /** Its place among all rows. */
  readonly at: number;
}
export interface Place<Row> extends Shown<Row> {
  /** Of the element. */
  readonly key: number;
}

export interface Rules {
  /** The id of a row whose element becomes no other's: the focus is there, or a press has begun. */
  readonly held: string | null;
  /** Elements go from row to row. They do not while a person has selected text in them. */
  readonly reuse: boolean;
  /** In the document rows stand as on the screen, for who reads or tabs through them. It may wait while the list moves. */
  readonly inOrder: boolean;
}

/** The wanted rows, each in an element: a row keeps its own, whatever place it comes to. */
export function placed<Row extends { readonly id: string }>(before: readonly Place<Row>[], wanted: readonly Shown<Row>[], { held, reuse, inOrder }: Rules): Place<Row>[] {
  const coming = new Map(wanted.map((one) => [one.row.id, one]));
  const staying = before.map(({ row: { id } }) => {
    const one = coming.get(id);
    coming.delete(id);
    return one;
  });
  const newcomers = coming.values();
  const places: Place<Row>[] = [];
  before.forEach(({ key, row }, index) => {
    const one = staying[index] ?? (reuse && row.id !== held ? newcomers.next().value : undefined);
    if (one) places.push({ key, ...one });
  });
  let key = Math.max(-1, ...before.map((place) => place.key));
  for (const one of newcomers) places.push({ key: (key += 1), ...one });
  return inOrder ? places.sort((a, b) => a.at - b.at) : places;
}
