/** Charts are drawn in turn, those in sight first, and the page answers between them. */

/** So long it does not answer, unless a single chart takes longer. */
const SLICE_MS = 40;
/** What each element is to show, drawn once however often it changed meanwhile. */
const waiting = new Map<Element, () => void>();
let isDrawing = false;

const { port1, port2 } = new MessageChannel();
/** What waits besides, input or a frame, comes first. Timers would be held back. */
const pause = () =>
  new Promise((go) => {
    port1.onmessage = go;
    port2.postMessage(null);
  });

function isInSight(element: Element): boolean {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

export function inTurn(element: Element, draw: () => void): void {
  waiting.set(element, draw);
  if (!isDrawing) void drawAll();
}

async function drawAll() {
  isDrawing = true;
  while (waiting.size > 0) {
    await pause();
    let begun = performance.now();
    // Asked for all of them at once: each that is drawn changes the layout.
    const elements = [...waiting.keys()].map((element) => ({ element, isSeen: isInSight(element) }));
    for (const { element } of elements.sort((a, b) => Number(b.isSeen) - Number(a.isSeen))) {
      if (performance.now() - begun > SLICE_MS) {
        await pause();
        begun = performance.now();
      }
      const draw = waiting.get(element);
      waiting.delete(element);
      try {
        draw?.();
      } catch (cause) {
        console.error(cause);
      }
      // A plot paints its canvas in a microtask of its own.
      await null;
    }
  }
  isDrawing = false;
}
