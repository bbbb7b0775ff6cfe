/**
 * Measures the dashboard in Chromium; `tongtu-bench web` runs it and prints what it finds.
 *
 *   node e2e/bench.mjs URL SESSION HOST ROUNDS PARTS OUT
 *
 * URL is of a control whose hosts report, SESSION the cookie of an operator, HOST the id of a host with 30 days of
 * history, PARTS some of view, list, scroll, charts and vms, with commas between them. tests/bench/README.md defines the figures.
 */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { executablePath } from "./chromium.mjs";

const [url, session, host, rounds, parts, out] = process.argv.slice(2);
const SIZE = { width: 1366, height: 768 };
const KEY = "7";
/** How long it scrolls from the first row to the last. */
const SCROLL_SECONDS = 20;
/** What else the machine does meanwhile makes a run slow now and then. */
const SCROLLS = 3;
/** The list of virtual machines is not pushed: it is asked for again after that. */
const VMS_EVERY_MS = 30_000;
const CHARTS = 20;

/** A window is at rest when the browser used less CPU than this within that. */
const REST = { seconds: 0.03, within: 500 };
const SETTLES_MS = 30_000;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const itself = await browser.newBrowserCDPSession();

/** What a page of the dashboard is given before anything of its own runs. */
function prepare() {
  const bench = { tasks: [], clicked: 0 };
  globalThis.bench = bench;
  new PerformanceObserver((list) => bench.tasks.push(...list.getEntries().map(({ startTime, duration }) => ({ at: startTime, ms: duration })))).observe({ type: "longtask", buffered: true });
  addEventListener("click", ({ timeStamp }) => (bench.clicked = timeStamp), true);
  /** When what a look finds has been painted. */
  bench.painted = (look) =>
    new Promise((done) => {
      const see = () => (look() ? setTimeout(() => done(performance.now())) : requestAnimationFrame(see));
      requestAnimationFrame(see);
    });
  /** The list is usable: its rows are painted, and what a key in the filter leaves of them, too. */
  bench.usable = async (count, key) => {
    const status = () => document.querySelector(".table-frame [role=status]")?.textContent ?? "";
    const all = count.toLocaleString("en");
    const rows = await bench.painted(() => status().includes(all) && document.querySelectorAll("tbody tr[data-at]").length >= 10);
    document.querySelector(".table-frame input[type=search]").focus();
    const before = status();
    const [, answered] = await Promise.all([globalThis.press(key), bench.painted(() => status() !== before)]);
    return { rows, answered, tasks: bench.tasks };
  };
  bench.charts = async (count) => {
    const charts = () => [...document.querySelectorAll("figure.chart")];
    const drawn = await bench.painted(() => charts().length >= count && charts().every((chart) => chart.querySelector("canvas")));
    // A line has a colour, axes and grid are grey.
    const coloured = (canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let found = 0;
      for (let at = 0; at < data.length; at += 4) found += Number(Math.max(data[at], data[at + 1], data[at + 2]) - Math.min(data[at], data[at + 1], data[at + 2]) > 40);
      return found;
    };
    const without = charts().filter((chart) => coloured(chart.querySelector("canvas")) < 50);
    return { drawn, tasks: bench.tasks, without: without.map((chart) => chart.ariaLabel) };
  };
}

/** A browser that knows nothing yet but the session. */
async function visitor() {
  const context = await browser.newContext({ viewport: SIZE, locale: "zh-CN" });
  await context.addCookies([{ name: "tongtu_session", value: session, url }]);
  await context.addInitScript(prepare);
  await context.exposeBinding("press", ({ page }, key) => page.keyboard.press(key));
  return context;
}

/** A new window loads parts of its own (what its address bar would show) for about a second of CPU time: none of the page's. */
async function settled() {
  const used = async () => (await itself.send("SystemInfo.getProcessInfo")).processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
  let before = await used();
  for (const end = Date.now() + SETTLES_MS; Date.now() < end; ) {
    await new Promise((done) => setTimeout(done, REST.within));
    const now = await used();
    if (Math.abs(now - before) < REST.seconds) return;
    before = now;
  }
  throw new Error("the browser does not come to rest");
}

/** A page, and how much CPU time its main thread has used. */
async function opened(context) {
  const page = await context.newPage();
  await settled();
  page.setDefaultTimeout(60_000);
  const devtools = await context.newCDPSession(page);
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  const cpuMs = async () => {
    const { metrics } = await devtools.send("Performance.getMetrics");
    return (metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0) * 1000;
  };
  return { page, devtools, cpuMs };
}

const longest = (tasks) => Math.max(0, ...tasks.map(({ ms }) => ms));

/** Goes to an address, and what was measured there. */
async function measured(context, address, measure, argument) {
  const { page, cpuMs } = await opened(context);
  await page.goto(address, { waitUntil: "commit" });
  const found = await page.evaluate(measure, argument);
  const cpu = await cpuMs();
  await page.close();
  return { ...found, cpu };
}

/** The overview, by someone who comes for the first time: bytes over the network until it is drawn. */
async function firstView() {
  const context = await visitor();
  const { page, devtools, cpuMs } = await opened(context);
  const requests = new Map();
  let over = false;
  await devtools.send("Network.enable");
  devtools.on("Network.requestWillBeSent", ({ requestId, request, type }) => !over && type !== "EventSource" && requests.set(requestId, { address: request.url, bytes: null }));
  devtools.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => requests.has(requestId) && (requests.get(requestId).bytes = encodedDataLength));
  await page.goto(`${url}/overview`, { waitUntil: "commit" });
  const drawn = await page.evaluate(() => globalThis.bench.painted(() => document.querySelector(".overview h2.title") !== null && document.querySelectorAll(".now-of figure.chart canvas").length >= 4));
  over = true;
  const cpu = await cpuMs();
  // What was asked for before that is part of it.
  for (const end = Date.now() + 10_000; [...requests.values()].some(({ bytes }) => bytes === null); ) {
    if (Date.now() > end) throw new Error(`not finished: ${JSON.stringify([...requests.values()])}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  await context.close();
  const files = [...requests.values()].map(({ address, bytes }) => ({ name: address.slice(url.length), bytes }));
  return { drawn, cpu, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0), files: files.sort((a, b) => b.bytes - a.bytes) };
}

const usable = ([count, key]) => globalThis.bench.usable(count, key);
const charts = (count) => globalThis.bench.charts(count);

/** One thing, several times: always with nothing kept, and with what the visit before left. */
async function coldAndWarm(address, measure, argument) {
  const found = { cold: [], warm: [] };
  for (let round = 0; round < Number(rounds); round += 1) {
    const context = await visitor();
    found.cold.push(await measured(context, address, measure, argument));
    // The second visit compiles what the first one brought; from then on the browser keeps that, too.
    await measured(context, address, measure, argument);
    found.warm.push(await measured(context, address, measure, argument));
    await context.close();
  }
  return found;
}

/** From the overview by the navigation, to a list of so many. */
async function clicked(list, count) {
  const found = [];
  const context = await visitor();
  for (let round = 0; round < Number(rounds); round += 1) {
    const { page, cpuMs } = await opened(context);
    await page.goto(`${url}/overview`);
    await page.locator(".overview h2.title").first().waitFor();
    const before = await cpuMs();
    const answer = page.evaluate(usable, [count, KEY]);
    await page.locator(`nav a[href='${list}']`).click();
    const { rows, answered, tasks } = await answer;
    const from = await page.evaluate(() => globalThis.bench.clicked);
    found.push({ rows: rows - from, answered: answered - from, tasks: tasks.filter(({ at }) => at >= from), cpu: (await cpuMs()) - before });
    await page.close();
  }
  await context.close();
  return found;
}

/** From the first row to the last, while all report; `rest`: so long after the list is there. */
async function scroll(list, count, rest = 0) {
  const context = await visitor();
  const { page, devtools, cpuMs } = await opened(context);
  await page.goto(url + list);
  await page.evaluate(usable, [count, KEY]);
  await page.locator(".table-frame input[type=search]").fill("");
  await page.locator(`table[aria-rowcount="${count + 1}"]`).waitFor();
  await page.waitForTimeout(rest);
  let updates = 0;
  await devtools.send("Network.enable");
  devtools.on("Network.eventSourceMessageReceived", () => (updates += 1));
  devtools.on("Network.responseReceived", ({ response }) => (updates += Number(response.url.includes(`/api/v1${list}`))));
  const area = page.locator(".table-frame .rows");
  const { x, y, width, height } = await area.boundingBox();
  const distance = await area.evaluate((element) => element.scrollHeight - element.clientHeight);
  const before = await cpuMs();
  const tasksBefore = await page.evaluate(() => {
    const { bench } = globalThis;
    bench.frames = [];
    const frame = (at) => (bench.frames.push(at), requestAnimationFrame(frame));
    requestAnimationFrame(frame);
    return bench.tasks.length;
  });
  await devtools.send("Input.synthesizeScrollGesture", {
    x: x + width / 2, y: y + height / 2, yDistance: -distance, speed: Math.ceil(distance / SCROLL_SECONDS), gestureSourceType: "mouse", preventFling: true,
  });
  const cpu = (await cpuMs()) - before;
  const { left, last, tasks, frames } = await area.evaluate((element) => ({
    left: element.scrollHeight - element.clientHeight - element.scrollTop,
    last: Math.max(-1, ...[...element.querySelectorAll("tbody tr[data-at]")].map(({ dataset }) => Number(dataset.at))),
    tasks: globalThis.bench.tasks,
    frames: globalThis.bench.frames,
  }));
  if (left > 100 || last !== count - 1) throw new Error(`it did not come to the end of the list: ${left} pixels left, last row ${last}`);
  await context.close();
  const long = tasks.slice(tasksBefore);
  const seconds = (frames.at(-1) - frames[0]) / 1000;
  return { seconds, cpu, long: long.length, longest: longest(long), updates, frames: frames.length / seconds };
}

async function scrolls(...how) {
  const runs = [];
  while (runs.length < SCROLLS) runs.push(await scroll(...how));
  return runs;
}

/** What is built, by file; the hash that a name ends with left out. */
function bundle() {
  const folder = new URL("../dist/assets/", import.meta.url);
  const files = readdirSync(folder).map((name) => {
    const text = readFileSync(new URL(name, folder));
    return { name: name.replace(/-[^-]{8}(\.\w+)$/, "$1"), bytes: text.length, gzip: gzipSync(text, { level: 9 }).length };
  });
  return files.sort((a, b) => b.gzip - a.gzip);
}

const summary = (visits) => visits.map(({ rows, answered, drawn, tasks, cpu, without }) => ({ rows, answered, drawn, cpu, without, longest: longest(tasks) }));

try {
  const asked = async (path) => (await fetch(`${url}/api/v1${path}`, { headers: { cookie: `tongtu_session=${session}` } })).json();
  const hosts = (await asked("/overview")).hosts.total;
  /** A list, by address, by the third visit, and by a click. */
  const list = async (path, count) => {
    const { cold, warm } = await coldAndWarm(url + path, usable, [count, KEY]);
    return { cold: summary(cold), warm: summary(warm), click: summary(await clicked(path, count)) };
  };
  const MEASURES = {
    view: firstView,
    list: () => list("/hosts", hosts),
    scroll: () => scrolls("/hosts", hosts),
    async vms() {
      const count = (await asked("/vms?limit=10000")).items.length;
      // It is asked for again in the middle.
      return { ...(await list("/vms", count)), scroll: await scrolls("/vms", count, VMS_EVERY_MS - SCROLL_SECONDS * 500) };
    },
    async charts() {
      const { cold, warm } = await coldAndWarm(`${url}/hosts/${host}?range=30d`, charts, CHARTS);
      return { cold: summary(cold), warm: summary(warm) };
    },
  };
  const found = { chromium: browser.version(), bundle: bundle(), hosts };
  for (const part of parts.split(",")) found[part] = await MEASURES[part]();
  writeFileSync(out, `${JSON.stringify(found, null, 1)}\n`);
} finally {
  await browser.close();
}
