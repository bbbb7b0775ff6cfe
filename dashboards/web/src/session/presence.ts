/** Whether somebody is there: what a page asks for when nobody is keeps no session alive. */

/** What is asked for so long after a press, a key or the wheel is asked for by the page itself. */
const AWAY_MS = 60_000;
const SIGNS = ["pointerdown", "keydown", "wheel", "popstate"] as const;

// To open the page is the first sign.
let seen = Date.now();

export function isAway(): boolean {
  return Date.now() - seen > AWAY_MS;
}

/** Looks for signs of a person, wherever in the window and whoever else takes them. */
export function watchPresence(within: Pick<EventTarget, "addEventListener">): void {
  for (const sign of SIGNS) within.addEventListener(sign, () => (seen = Date.now()), { capture: true, passive: true });
}
