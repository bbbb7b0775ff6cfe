/** Organisations as a tree, flat, in its order. Pure. */

interface Node {
  readonly id: string;
  readonly parent?: string | null;
}

/** Each item with its depth, children behind their parent. What hangs on nothing known stands at the top. */
export function tree<Item extends Node>(items: readonly Item[]): { readonly item: Item; readonly depth: number }[] {
  const known = new Set(items.map(({ id }) => id));
  const below = new Map<string, Item[]>();
  for (const item of items) {
    const under = item.parent && known.has(item.parent) ? item.parent : "";
    below.set(under, [...(below.get(under) ?? []), item]);
  }
  const found: { item: Item; depth: number }[] = [];
  const walk = (parent: string, depth: number) => {
    for (const item of below.get(parent) ?? []) {
      found.push({ item, depth });
      walk(item.id, depth + 1);
    }
  };
  walk("", 0);
  return found;
}
