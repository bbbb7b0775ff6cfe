/** A list that is told what changes of it: nothing is missed, nothing grows old, and it is not asked for too often. */
import { QueryClient, VueQueryPlugin } from "@tanstack/vue-query";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createRenderer } from "vue";
import { createPinia } from "pinia";
import { type LiveList, askAheadOfList, giveUpAhead, useLiveList } from "../src/session/list";
import type { Me } from "../src/session/shapes";
import { useSession } from "../src/session/store";

// The client of the API knows where it was loaded from.
vi.hoisted(() => vi.stubGlobal("location", { origin: "http://127.0.0.1" }));

interface Row {
  readonly id: string;
  readonly state: string;
}

class Stream extends EventTarget {
  static readonly CLOSED = 2;
  static all: Stream[] = [];
  readyState = 1;
  constructor() {
    super();
    Stream.all.push(this);
  }
  close() {
    this.readyState = Stream.CLOSED;
  }
}

const KEY = ["hosts", "all"];
const LIST: LiveList<Row> = { topic: "hosts", queryKey: KEY, ask: () => new Promise((answer) => answers.push(answer)), every: 300_000 };
const UP: Row[] = [{ id: "host_1", state: "up" }, { id: "host_2", state: "up" }];
const fetched = vi.fn(async () => ({ ok: true }));
let answers: ((rows: Row[]) => void)[];
let client: QueryClient;
let page: { unmount: () => void };

/** What the page shows. */
const shown = () => client.getQueryData<Row[]>(KEY)?.map(({ state }) => state);
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
async function tell(name: string, data: unknown = {}) {
  Stream.all.at(-1)?.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
  await pass(0);
}
const change = (...rows: string[][]) => tell("hosts", { total: 2, columns: ["id", "state"], rows });
async function answered(place: number, rows = UP) {
  answers[place]?.(rows);
  await pass(0);
}
/** The stream is open, and the list is there. */
async function loaded() {
  await tell("open");
  await answered(0);
}

/** A page without a browser, of who may do this with hosts. */
function open(measurements: "read" | "none" = "read") {
  const nothing = () => {};
  const node = () => ({});
  const { createApp } = createRenderer<object, object>({
    insert: nothing,
    remove: nothing,
    patchProp: nothing,
    setText: nothing,
    setElementText: nothing,
    createElement: node,
    createText: node,
    createComment: node,
    parentNode: () => null,
    nextSibling: () => null,
  });
  const app = createApp({
    setup() {
      useSession().begin({ csrf: "", capabilities: { measurements } } as unknown as Me);
      useLiveList(LIST);
      return () => null;
    },
  });
  app.use(createPinia()).use(VueQueryPlugin, { queryClient: client }).mount({});
  page = app;
}

beforeEach(async () => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("fetch", fetched);
  vi.stubGlobal("document", { hidden: false, addEventListener: () => {}, removeEventListener: () => {} });
  fetched.mockClear();
  Stream.all = [];
  answers = [];
  client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  open();
  await pass(0);
});
afterEach(() => {
  page.unmount();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test("the list is asked for once the stream is open, and an older answer does not win", async () => {
  expect(answers).toHaveLength(0);
  await tell("open");
  expect(answers).toHaveLength(1);
  await change(["host_1", "stale"]);
  await answered(0);
  expect(shown()).toEqual(["stale", "up"]);
});

test("a list that was shown before is asked for once when the page is opened again", async () => {
  await loaded();
  page.unmount();
  await pass(10_000);
  open();
  await tell("open");
  expect(answers).toHaveLength(2);
});

test("a stream that opens late makes the list be asked for anew", async () => {
  await pass(1_000);
  expect(answers).toHaveLength(1);
  await answered(0);
  await tell("open");
  expect(answers).toHaveLength(2);
  await answered(1, [{ id: "host_1", state: "stale" }]);
  expect(shown()).toEqual(["stale"]);
});

test("nor is it forgotten when it opens while the list comes", async () => {
  await pass(1_000);
  await tell("open");
  await answered(0);
  expect(answers).toHaveLength(1);
  await pass(20_000);
  expect(answers).toHaveLength(2);
});

test("a list that is marked as old before anybody looks is asked for, though a push came meanwhile", async () => {
  await loaded();
  page.unmount();
  Stream.all = [];
  answers = [];
  // As the dashboard's own.
  client = new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: 5_000 } } });
  void askAheadOfList(client, LIST);
  await pass(1_000);
  await answered(0);
  await tell("open");
  await change(["host_1", "up"]);
  open();
  await pass(20_000);
  expect(answers).toHaveLength(2);
});

test("an answer that takes long is waited for, and then the list is asked for anew", async () => {
  await loaded();
  await pass(15_000);
  await change(["host_1", "stale"]);
  await pass(5_000);
  expect(answers).toHaveLength(2);
  await change(["host_1", "up"]);
  await pass(40_000);
  expect(answers).toHaveLength(2);
  await answered(1, [{ id: "host_1", state: "up" }, { id: "host_2", state: "up" }]);
  await pass(20_000);
  expect(answers).toHaveLength(3);
});

test("however much changes, the list is asked for every 15 seconds at most, and what is told is shown at once", async () => {
  await loaded();
  for (let second = 0; second < 14; second += 2) {
    await change(["host_1", second % 4 ? "up" : "stale"]);
    expect(shown()?.[0]).toBe(second % 4 ? "up" : "stale");
    await pass(2_000);
  }
  expect(answers).toHaveLength(1);
  await pass(4_000);
  expect(answers).toHaveLength(2);
});

test("what is not pushed does not grow old while the stream pushes", async () => {
  await loaded();
  for (let second = 0; second < 310; second += 10) {
    await change(["host_1", "up"]);
    await pass(10_000);
  }
  expect(answers).toHaveLength(2);
});

test("a dead stream is noticed and opened anew, one with signs of life is not", async () => {
  await loaded();
  for (let sign = 0; sign < 5; sign++) {
    await pass(40_000);
    await tell("alive");
  }
  expect(Stream.all).toHaveLength(1);
  await pass(45_000);
  expect(Stream.all.map(({ readyState }) => readyState)).toEqual([Stream.CLOSED, 1]);
  expect(fetched).toHaveBeenCalledWith("/healthz", expect.anything());
  await tell("open");
  expect(answers).toHaveLength(2);
});

test("a page that is left asks nothing more", async () => {
  await loaded();
  await change(["host_1", "stale"]);
  page.unmount();
  await pass(600_000);
  expect(answers).toHaveLength(1);
  expect(Stream.all.map(({ readyState }) => readyState)).toEqual([Stream.CLOSED]);
});

test("who may not see hosts asks for no stream, which would be refused, and is told every few seconds", async () => {
  page.unmount();
  Stream.all = [];
  answers = [];
  client.clear();
  open("none");
  await pass(0);
  expect(Stream.all).toHaveLength(0);
  expect(answers).toHaveLength(1);
  await answered(0);
  await pass(15_000);
  expect(answers).toHaveLength(2);
});

test("a list that was asked for before its page was there is asked for once, and misses nothing", async () => {
  page.unmount();
  Stream.all = [];
  answers = [];
  client.clear();
  void askAheadOfList(client, LIST);
  await tell("open");
  await change(["host_1", "stale"]);
  open();
  await answered(0);
  await change(["host_2", "stale"]);
  expect(shown()).toEqual(["stale", "stale"]);
  expect([Stream.all.length, answers.length]).toEqual([1, 1]);
  page.unmount();
  expect(Stream.all.map(({ readyState }) => readyState)).toEqual([Stream.CLOSED]);
});

test("nor is it listened to when somebody else comes", async () => {
  page.unmount();
  Stream.all = [];
  void askAheadOfList(client, LIST);
  await tell("open");
  giveUpAhead();
  expect(Stream.all.map(({ readyState }) => readyState)).toEqual([Stream.CLOSED]);
});

test("nor is it listened to for a page that does not come", async () => {
  page.unmount();
  Stream.all = [];
  void askAheadOfList(client, LIST);
  await tell("open");
  await pass(10_000);
  expect(Stream.all.map(({ readyState }) => readyState)).toEqual([Stream.CLOSED]);
});
