/** Charts are drawn in turn: those in sight first, each once, and with pauses in which the page answers. */
import { beforeEach, expect, test, vi } from "vitest";
import { inTurn } from "../src/ui/chart/turns";

let now = 0;
beforeEach(() => {
  vi.stubGlobal("innerHeight", 700);
  vi.spyOn(performance, "now").mockImplementation(() => now);
});

const element = (top: number) => ({ getBoundingClientRect: () => ({ top, bottom: top + 100 }) }) as Element;

/** When everything that was put in before has been drawn. */
const allDrawn = () => new Promise<void>((done) => inTurn(element(10_000), done));

test("those in sight come first, each as it was last, and one that breaks holds up nobody", async () => {
  const said = vi.spyOn(console, "error").mockImplementation(() => {});
  const drawn: string[] = [];
  const [above, seen, below, broken] = [element(-500), element(100), element(2_000), element(200)];
  inTurn(above, () => drawn.push("above"));
  inTurn(below, () => drawn.push("below"));
  inTurn(broken, () => {
    throw new Error("no canvas");
  });
  inTurn(seen, () => drawn.push("old"));
  inTurn(seen, () => drawn.push("seen"));
  expect(drawn).toEqual([]);
  await allDrawn();
  expect(drawn).toEqual(["seen", "above", "below"]);
  expect(said).toHaveBeenCalledOnce();
});

test("what takes long is drawn in several tasks", async () => {
  const tasks = vi.spyOn(MessagePort.prototype, "postMessage");
  const took = async (ms: number) => {
    tasks.mockClear();
    for (let top = 0; top < 600; top += 100) inTurn(element(top), () => (now += ms));
    await allDrawn();
    return tasks.mock.calls.length;
  };
  expect(await took(1)).toBe(1);
  // 6 of 20 ms and the last one, in slices that end after 40.
  expect(await took(20)).toBe(3);
});
