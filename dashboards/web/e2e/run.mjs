/** Runs the browser tests: `node e2e/run.mjs [FOLDER OF THE BINARIES]`. */
import { resolve } from "node:path";
import { chromium } from "playwright-core";
import { executablePath } from "./chromium.mjs";
import { start, until } from "./control.mjs";
import { accessibility, everyPage, firstRun, firstView, hostPage, logIn, quick, visit } from "./walk.mjs";

const FIRST_VIEW_LIMIT = 250_000;
const binaries = resolve(process.argv[2] ?? "../../target/debug");

async function step(name, act) {
  const began = performance.now();
  const said = await act();
  console.log(`ok  ${name}${said === undefined ? "" : `: ${said}`} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  return said;
}
function none(faults) {
  if (faults.length > 0) throw new Error(faults.join("\n"));
}

const control = await start(binaries);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
let failed = true;
const opened = [];
try {
  const { url } = control;
  const security = await visit(browser);
  const operator = await visit(browser);
  opened.push(security, operator);
  let link = "";
  await step("first run", async () => void (link = await firstRun(security.page, url, control.invitation)));
  await step("the operator logs in", () => logIn(operator.page, url, link));
  operator.faults.length = 0; // the refused password
  await step("this machine is measured", () => until("a host with figures", () => operator.page.getByRole("link", { name: "1", exact: true }).first().isVisible(), 60).then(() => undefined));
  await step("a host's charts", () => hostPage(operator.page, url));
  await step("Ctrl-K", () => quick(operator.page));
  for (const [language, theme] of [["zh-CN", "light"], ["en", "dark"]]) {
    await step(`the operator's pages, ${language}, ${theme}`, () => everyPage(operator.page, url, "operator", language, theme));
    await step(`the security administrator's pages, ${language}, ${theme}`, () => everyPage(security.page, url, "security", language, theme));
  }
  await step("nothing was said wrong", () => none([...operator.faults, ...security.faults]));
  await step("accessibility", async () => {
    none(await accessibility(browser, operator.context, url, ["/overview", "/hosts", "/hosts/host_1", "/agents", "/account"]));
    none(await accessibility(browser, security.context, url, ["/users", "/roles", "/organizations", "/tokens", "/sessions"]));
    none(await accessibility(browser, await browser.newContext(), url, ["/login"]));
  });
  await step("the first view", async () => {
    const bytes = await firstView(browser, operator.context, url);
    if (bytes > FIRST_VIEW_LIMIT) throw new Error(`${bytes} bytes, more than ${FIRST_VIEW_LIMIT}`);
    return `${bytes} bytes`;
  });
  failed = false;
} catch (cause) {
  console.error(cause);
  for (const [index, { page }] of opened.entries()) {
    console.error(page.url());
    await page.screenshot({ path: `e2e/screenshots/failed-${index}.png` }).catch(() => {});
  }
} finally {
  await browser.close();
  await control.stop();
}
process.exitCode = failed ? 1 : 0;
