/** Walks through the dashboard as a person does: by role and visible name, against the real service. */
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const SCREENSHOTS = fileURLToPath(new URL("./screenshots", import.meta.url));
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PASSWORD = "a bridge over the widest river";
export const SIZE = { width: 1366, height: 768 };

/** Collects what a page says wrong: what was thrown, what failed, words that are missing. */
function listen(page) {
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    // A refusal is an answer, not a fault; so is that nothing answers, while the test wants it so.
    if (message.type() === "error" && !/status of 4\d\d|ERR_INTERNET_DISCONNECTED/.test(message.text())) faults.push(message.text());
  });
  return faults;
}

/** A browser's context with everything that a page says wrong. */
export async function visit(browser, options = {}) {
  const context = await browser.newContext({ viewport: SIZE, locale: "zh-CN", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  return { context, page, faults: listen(page) };
}

/** A page as somebody sees it: each of its charts is drawn, or says that there is nothing to draw. */
export async function screenshot(page, name) {
  await page.locator("figure.chart:not(:has(canvas, .nothing))").first().waitFor({ state: "detached" });
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

async function setPassword(page, button) {
  await page.getByLabel("新密码").fill(PASSWORD);
  await page.getByLabel("再输入一次").fill(PASSWORD);
  await page.getByRole("button", { name: button }).click();
}

/** The one-time link → the security administrator → the link of the first operator. */
export async function firstRun(page, url, invitation) {
  await page.goto(`${url}/invitation#${invitation.split("#")[1]}`);
  await page.getByRole("heading", { name: "创建首位安全管理员" }).waitFor();
  await page.getByLabel("用户名").fill("security");
  await page.getByLabel("姓名").fill("王安");
  await setPassword(page, "创建并登录");
  await page.getByRole("heading", { name: "邀请首位运维员" }).waitFor();
  await screenshot(page, "first-operator");
  const found = await violationsOf(page, "the first operator");
  if (found.length > 0) throw new Error(found.join("\n"));
  await page.getByLabel("用户名").fill("operator");
  await page.getByLabel("姓名").fill("李运");
  await page.getByRole("button", { name: "生成链接" }).click();
  const link = await page.getByRole("textbox", { name: "一次性链接" }).innerText();
  await page.getByRole("button", { name: "进入系统" }).click();
  await page.getByRole("heading", { name: "用户", level: 1 }).waitFor();
  return link;
}

/** The operator sets a password, logs out and in again, and sees this machine. */
export async function logIn(page, url, link) {
  await page.goto(`${url}/invitation#${link.split("#")[1]}`);
  await setPassword(page, "设置并登录");
  await page.getByRole("heading", { name: "总览", level: 1 }).waitFor();
  await page.getByRole("button", { name: "退出登录" }).click();
  await page.getByLabel("用户名").fill("operator");
  await page.getByLabel("密码").fill("not the password");
  await page.getByRole("button", { name: "登录" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("密码").fill(PASSWORD);
  await page.getByRole("button", { name: "登录" }).click();
  await page.getByRole("heading", { name: "总览", level: 1 }).waitFor();
}

/** Pages by their names in both languages. */
export const PAGES = {
  operator: [["总览", "Overview"], ["主机", "Hosts"], ["探针", "Agents"], ["探针部署", "Roll-outs"], ["云资源", "Cloud"], ["虚拟机", "Virtual machines"], ["台账对账", "Ledger"], ["利用率评估", "Utilisation review"], ["云服务商", "Providers"], ["我的账号", "My account"]],
  auditor: [["总览", "Overview"], ["用户", "Users"], ["机器令牌", "Machine tokens"], ["审计日志", "Audit log"], ["系统设置", "Settings"]],
  system: [["系统设置", "Settings"], ["探针", "Agents"]],
  department: [["总览", "Overview"], ["主机", "Hosts"], ["云资源", "Cloud"], ["虚拟机", "Virtual machines"]],
  security: [["用户", "Users"], ["角色", "Roles"], ["组织机构", "Organisations"], ["机器令牌", "Machine tokens"], ["会话", "Sessions"]],
};

/** Every page of a duty in a language and a theme, with a screenshot of each. */
export async function everyPage(page, url, duty, language, theme) {
  await page.evaluate(([speech, look]) => {
    localStorage.setItem("language", speech);
    localStorage.setItem("theme", look);
  }, [language, theme]);
  await page.goto(url);
  for (const names of PAGES[duty]) {
    const name = names[language === "en" ? 1 : 0];
    await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
    await page.getByRole("heading", { name, level: 1, exact: true }).waitFor();
    await page.getByRole("status").filter({ hasText: /正在加载|Loading/ }).waitFor({ state: "detached" });
    await screenshot(page, `${duty}-${names[1].toLowerCase().replaceAll(" ", "-")}-${language}-${theme}`);
  }
}

/** This machine's page: a chart that draws something, its definition to copy, a period in the URL. */
export async function hostPage(page, url) {
  await page.goto(`${url}/hosts`);
  await page.getByRole("table").getByRole("link").first().click();
  await page.locator("figure canvas").first().waitFor();
  await page.getByRole("figure", { name: "平均负载" }).getByRole("button").click();
  await page.getByText("node_load1{").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "6 小时" }).click();
  await page.waitForURL(/range=6h/);
  await screenshot(page, "host-zh-CN-light");
}

/** Ctrl-K goes to a page by typing. */
export async function quick(page) {
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox").fill("探针");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "探针", level: 1 }).waitFor();
}

/** What axe finds serious on a page as it is. Its script is not the service's own, so it comes by the debugger, which no policy binds. */
async function violationsOf(page, where) {
  const debug = await page.context().newCDPSession(page);
  await debug.send("Runtime.evaluate", { expression: AXE });
  await debug.detach();
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa"] }));
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => `${where}: ${id}: ${nodes[0]?.html.slice(0, 160)} (${nodes.length})`);
}

/** The name of a path as a file's. */
const named = (path) => path.replace(/[?#].*/, "").replaceAll("/", "-").slice(1);

/** What axe finds serious on pages, and in what `opens` opens on them, and what they say wrong. In English each is kept as a screenshot. */
export async function accessibility(browser, context, url, paths, opens = {}, themes = ["light"], language = "zh-CN") {
  const other = await browser.newContext({ viewport: SIZE, bypassCSP: true, locale: language, storageState: await context.storageState() });
  const page = await other.newPage();
  page.setDefaultTimeout(15_000);
  const said = listen(page);
  const found = [];
  const check = async (where) => void found.push(...(await violationsOf(page, where)));
  await page.goto(url);
  for (const theme of themes) {
    await page.evaluate(([speech, look]) => { localStorage.setItem("language", speech); localStorage.setItem("theme", look); }, [language, theme]);
    for (const path of paths) {
      await page.goto(url + path);
      await page.getByRole("heading", { level: 1 }).first().waitFor();
      await page.waitForLoadState("load");
      // Its panels come one by one: what scrolls before there is anything to reach in it is no fault.
      if (path === "/settings") await page.getByRole("main").getByRole("button").first().waitFor();
      if (language === "en") {
        await page.locator("main .loading, .alone .loading").first().waitFor({ state: "detached" });
        await screenshot(page, `${named(path)}-en-${theme}`);
      }
      await check(`${path} ${theme}`);
      for (const [name, open] of Object.entries(opens[path] ?? {})) {
        await open(page);
        await check(`${path} ${theme}, ${name}`);
        for (let left = await page.getByRole("dialog").count(); left > 0; left = await page.getByRole("dialog").count()) await page.keyboard.press("Escape");
      }
    }
  }
  await other.close();
  return [...found, ...said];
}

/** What the browser transfers until the overview is drawn, without anything kept. */
export async function firstView(browser, context, url) {
  const other = await browser.newContext({ viewport: SIZE, storageState: await context.storageState() });
  const page = await other.newPage();
  const session = await other.newCDPSession(page);
  let bytes = 0;
  await session.send("Network.enable");
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  await page.goto(`${url}/overview`);
  await page.getByRole("heading", { name: /需要处理|Needs attention/ }).waitFor();
  await other.close();
  return bytes;
}
