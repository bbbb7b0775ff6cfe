/** Runs the browser tests: `node e2e/run.mjs [FOLDER OF THE BINARIES]`. */
import { resolve } from "node:path";
import { chromium } from "playwright-core";
import { executablePath } from "./chromium.mjs";
import { start, until } from "./control.mjs";
import { cloudEmpty, hypervisor, overviewOfDepartment, providers, virtualMachine } from "./cloud.mjs";
import { audit, enrolAndRevoke, happened, keyboard, longList, outage, revokeToken, sizes, unasked } from "./duties.mjs";
import { DUTIES, accept, disable, enter, newcomer, organizations, otherLink, rights, tokens, users } from "./people.mjs";
import { ledger } from "./ledger.mjs";
import { OPENS, SETTINGS_OPENS } from "./opens.mjs";
import { rollout } from "./rollout.mjs";
import { settings } from "./settings.mjs";
import { PAGES, accessibility, everyPage, firstRun, firstView, hostPage, logIn, quick, visit } from "./walk.mjs";

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
const stops = [];
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
  await step("enrolling an agent and revoking it", () => enrolAndRevoke(operator.page, url, binaries));
  await step("an enrolment token is taken back", () => revokeToken(operator.page, url));
  await step("a roll-out over SSH, as a dry run", () => rollout(operator.page, url));
  await step("what happened", () => happened(operator.page, url));
  await step("providers of the cloud", () => providers(operator.page, url));
  await step("the keyboard alone", () => keyboard(operator.page, url));
  await step("a cloud without virtual machines", () => cloudEmpty(operator.page, url));
  await step("organisations", () => organizations(security.page));
  let links = {};
  await step("users", async () => void (links = await users(security.page)));
  let stopped = null;
  await step("the agent of a hypervisor", async () => void (stopped = await hypervisor(operator.page, url, binaries)));
  if (stopped) {
    stops.push(stopped);
    await step("a virtual machine, given to a department", () => virtualMachine(operator.page, url));
  }
  await step("a ledger, tried, imported and held against what is measured", () => ledger(operator.page, url, stopped !== null));
  await step("machine tokens", () => tokens(security.page));
  const visits = { operator, security };
  for (const { name, landing } of DUTIES) {
    visits[name] = await visit(browser);
    opened.push(visits[name]);
    await step(`${name} lands on the page of the duty`, () => accept(visits[name].page, url, links[name], landing));
  }
  if (stopped) await step("a department's overview", () => overviewOfDepartment(visits.department.page, url));
  await step("another one-time link in the same tab", () => otherLink(browser, security.page, url));
  await step("disabling a user", () => disable(security.page, visits.migration.page, url));
  await step("who is enabled again logs in", () => enter(visits.migration.page, url, "migration", "/overview"));
  for (const { name, pages } of DUTIES) await step(`${name} sees what is theirs alone`, () => rights(visits[name].page, url, pages));
  await step("operator sees what is theirs alone", () => rights(operator.page, url, ["总览", "主机", "探针", "探针部署", "云资源", "虚拟机", "台账对账", "利用率评估", "云服务商", "我的账号"]));
  await step("security sees what is theirs alone", () => rights(security.page, url, ["用户", "角色", "组织机构", "机器令牌", "会话", "我的账号"]));
  await step("the audit log", () => audit(visits.auditor.page, url));
  await step("a list longer than the screen", () => longList(visits.auditor.page, url));
  await step("the system administrator sets, the auditor sees", () => settings(visits.system, visits.auditor, url));
  await step("control does not answer", () => outage(operator.page, url));
  for (const [language, theme] of [["zh-CN", "light"], ["en", "dark"], ["zh-CN", "dark"]]) {
    for (const duty of Object.keys(PAGES)) await step(`the pages of ${duty}, ${language}, ${theme}`, () => everyPage(visits[duty].page, url, duty, language, theme));
  }
  await step("small and large screens", () => sizes(browser, operator.context, url));
  await step("no page asked for what its reader may not see", () => unasked(visits.auditor.page));
  await step("nothing was said wrong", () => none(opened.flatMap(({ faults }) => faults)));
  await step("accessibility", async () => {
    none(await accessibility(browser, operator.context, url, ["/overview", "/hosts", "/hosts/host_1", "/agents", "/rollouts", "/rollouts/rollout_1?machine=1", "/cloud", "/vms", "/vms/vm_1", "/ledger", "/review", "/providers", "/account"], OPENS, ["light", "dark"]));
    none(await accessibility(browser, security.context, url, ["/users", "/roles", "/organizations", "/tokens", "/sessions", "/users?user=user_1", "/nowhere"], OPENS, ["light", "dark"]));
    none(await accessibility(browser, visits.auditor.context, url, ["/audit", "/settings", "/roles", "/users"]));
    none(await accessibility(browser, visits.system.context, url, ["/settings", "/agents?agent=agent_1", "/users"], SETTINGS_OPENS, ["light", "dark"]));
    none(await accessibility(browser, visits.department.context, url, ["/overview", "/hosts", "/cloud", "/vms"]));
    const invitation = `/invitation#${await newcomer(security.page)}`;
    none(await accessibility(browser, await browser.newContext(), url, ["/login", invitation]));
    const things = ["/hosts/host_1", "/rollouts/rollout_1", "/rollouts/rollout_1?machine=1", "/agents?agent=agent_2", ...(stopped ? ["/vms/vm_1"] : [])];
    none(await accessibility(browser, operator.context, url, things, {}, ["light"], "en"));
    none(await accessibility(browser, await browser.newContext(), url, ["/login", invitation], {}, ["light"], "en"));
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
  for (const stop of stops) await stop();
  await control.stop();
}
process.exitCode = failed ? 1 : 0;
