/** What the security administrator does with forms: organisations, users, tokens; wrong input is told at its field. */
import { screenshot, visit } from "./walk.mjs";

/** What must be shown as the text that it is, wherever a text can be written. */
export const HOSTILE = `<script>window.broken=1</script><img src=x onerror="window.broken=1">'; DROP TABLE user_account; --`;
const PASSWORD = "a bridge over the widest river";

/** The duties that the security administrator gives out: name, shown name, role. */
export const DUTIES = [
  { name: "system", shown: "赵系统", role: "系统管理员", landing: "/settings", pages: ["系统设置", "探针", "探针部署", "我的账号"] },
  { name: "auditor", shown: "钱审计", role: "审计员", landing: "/audit", pages: ["总览", "主机", "探针", "探针部署", "云资源", "虚拟机", "台账对账", "利用率评估", "云服务商", "用户", "角色", "组织机构", "机器令牌", "会话", "审计日志", "系统设置", "我的账号"] },
  { name: "migration", shown: "孙迁移", role: "迁移负责人", landing: "/overview", pages: ["总览", "主机", "探针", "探针部署", "云资源", "虚拟机", "台账对账", "利用率评估", "云服务商", "我的账号"] },
  { name: "department", shown: "周部门", role: "部门用户", landing: "/overview", pages: ["总览", "主机", "云资源", "虚拟机", "台账对账", "利用率评估", "云服务商", "我的账号"], organization: "市教育局" },
];

async function open(page, name) {
  await page.getByRole("navigation").getByRole("link", { name, exact: true }).click();
  await page.getByRole("heading", { name, level: 1, exact: true }).waitFor();
}
const row = (page, text) => page.getByRole("row").filter({ hasText: text });
/** A field says what is wrong with it, in the page's language, and is marked. */
async function fault(field, text) {
  await field.and(field.page().locator("[aria-invalid=true]")).waitFor();
  await field.locator("xpath=..").getByRole("alert").filter({ hasText: text }).waitFor();
}

export async function organizations(page) {
  await open(page, "组织机构");
  await page.getByRole("button", { name: "新建组织" }).click();
  const dialog = page.getByRole("dialog", { name: "新建组织" });
  const name = dialog.getByLabel("名称");
  await name.fill("长".repeat(101));
  await dialog.getByRole("button", { name: "保存" }).click();
  await fault(name, "1 到 100 个字符");
  await screenshot(page, "organization-fault");
  await name.fill(HOSTILE);
  await dialog.getByRole("button", { name: "保存" }).click();
  await dialog.waitFor({ state: "detached" });
  await row(page, HOSTILE).click();
  const change = page.getByRole("dialog", { name: "修改组织" });
  await change.getByLabel("名称").fill("市教育局");
  await change.getByRole("button", { name: "保存" }).click();
  await row(page, "市教育局").waitFor();
  await screenshot(page, "organizations-changed");
}

/** Makes each duty's user; gives their links. */
export async function users(page) {
  await open(page, "用户");
  const links = {};
  for (const [index, duty] of DUTIES.entries()) {
    await page.getByRole("button", { name: "新建用户" }).click();
    const form = page.getByRole("dialog", { name: "新建用户" });
    const [name, create] = [form.getByLabel("用户名"), form.getByRole("button", { name: "新建用户" })];
    if (index === 0) {
      await name.fill("' OR 1=1 --");
      await create.click();
      await fault(name, "请使用 1 到 64 个字母");
      await fault(form.getByLabel("姓名"), "1 到 100 个字符");
      await form.getByText("请至少选择一个角色").waitFor();
      await screenshot(page, "user-faults");
      await form.getByLabel("姓名").fill(HOSTILE);
      await form.getByLabel(duty.role).check();
      await name.fill("OPERATOR");
      await create.click();
      await fault(name, "此用户名已被使用");
    } else {
      await form.getByLabel("姓名").fill(duty.shown);
      await form.getByLabel(duty.role).check();
    }
    if (duty.organization) await form.getByLabel("组织机构").selectOption({ label: `　${duty.organization}` });
    await name.fill(duty.name);
    await create.click();
    links[duty.name] = await form.getByRole("textbox", { name: "一次性链接" }).innerText();
    if (index === 0) await screenshot(page, "user-link");
    await form.getByRole("button", { name: "关闭" }).last().click();
    await row(page, duty.name).waitFor();
  }
  // Text is text, in the list and in the drawer.
  await row(page, HOSTILE).click();
  const drawer = page.getByRole("dialog", { name: HOSTILE });
  await drawer.getByLabel("姓名").fill(DUTIES[0].shown);
  await drawer.getByRole("button", { name: "保存" }).click();
  await row(page, DUTIES[0].shown).waitFor();
  if (await page.evaluate(() => globalThis.broken)) throw new Error("a text was run");
  return links;
}

/** Disabling ends what somebody has open; the same person comes back when enabled. */
export async function disable(page, other, url) {
  await open(page, "用户");
  await row(page, "migration").click();
  const drawer = page.getByRole("dialog", { name: "孙迁移" });
  await drawer.getByRole("button", { name: "停用" }).click();
  await drawer.getByRole("button", { name: "启用" }).waitFor();
  await page.keyboard.press("Escape");
  await row(page, "migration").getByText("已停用").waitFor();
  await other.goto(`${url}/hosts`);
  await other.getByRole("heading", { name: "登录", level: 1 }).waitFor();
  await row(page, "migration").click();
  await page.getByRole("dialog").getByRole("button", { name: "启用" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "停用" }).waitFor();
  await page.keyboard.press("Escape");
  // Nobody takes their own rights, and the button says so.
  await row(page, "王安").click();
  const own = page.getByRole("dialog", { name: "王安" }).getByRole("button", { name: /停用/ });
  if ((await own.getAttribute("aria-disabled")) !== "true") throw new Error("one's own account can be disabled");
  await page.keyboard.press("Escape");
}

export async function tokens(page) {
  await open(page, "机器令牌");
  await page.getByRole("button", { name: "新建令牌" }).click();
  const dialog = page.getByRole("dialog", { name: "新建令牌" });
  await dialog.getByLabel("名称").fill("长".repeat(101));
  await dialog.getByRole("button", { name: "新建令牌" }).click();
  await fault(dialog.getByLabel("名称"), "1 到 100 个字符");
  await screenshot(page, "token-fault");
  await dialog.getByLabel("名称").fill("prometheus");
  await dialog.getByRole("button", { name: "新建令牌" }).click();
  const secret = await dialog.getByRole("textbox", { name: "令牌" }).innerText();
  await screenshot(page, "token-secret");
  await dialog.getByRole("button", { name: "关闭" }).last().click();
  const works = () => page.evaluate((token) => fetch("/api/v1/hosts?limit=1", { headers: { authorization: `Bearer ${token}` }, credentials: "omit" }).then(({ status }) => status), secret);
  if ((await works()) !== 200) throw new Error("the new token does not work");
  const button = row(page, "prometheus").getByRole("button", { name: "吊销" });
  await button.click();
  await page.getByRole("dialog", { name: "吊销令牌 prometheus？" }).getByRole("button", { name: "取消" }).click();
  await button.click();
  await screenshot(page, "token-revoke");
  await page.getByRole("dialog").getByRole("button", { name: "吊销", exact: true }).click();
  await row(page, "prometheus").getByText("已吊销").waitFor();
  if ((await works()) !== 401) throw new Error("the revoked token still works");
}

/** Sets a password by a link; then one stands on the page of one's duty. */
export async function accept(page, url, link, landing) {
  await page.goto(`${url}/invitation#${link.split("#")[1]}`);
  await page.getByLabel("新密码").fill(PASSWORD);
  await page.getByLabel("再输入一次").fill(PASSWORD);
  await page.getByRole("button", { name: "设置并登录" }).click();
  await page.waitForURL(`${url}${landing}`);
}

/** Logs in again. */
export async function enter(page, url, name, landing) {
  await page.goto(`${url}/login`);
  await page.getByLabel("用户名").fill(name);
  await page.getByLabel("密码").fill(PASSWORD);
  await page.getByRole("button", { name: "登录" }).click();
  await page.waitForURL(`${url}${landing}`);
}

const PAGES = { 总览: "/overview", 主机: "/hosts", 探针: "/agents", 探针部署: "/rollouts", 云资源: "/cloud", 虚拟机: "/vms", 台账对账: "/ledger", 利用率评估: "/review", 云服务商: "/providers", 用户: "/users", 角色: "/roles", 组织机构: "/organizations", 机器令牌: "/tokens", 会话: "/sessions", 审计日志: "/audit", 系统设置: "/settings", 我的账号: "/account" };
const ASKED = { "/overview": "overview", "/hosts": "hosts", "/agents": "agents", "/rollouts": "rollouts", "/cloud": "capacity?by=host", "/vms": "vms", "/ledger": "ledger", "/review": "review", "/providers": "providers", "/users": "users", "/organizations": "organizations", "/tokens": "tokens", "/sessions": "sessions", "/audit": "audit", "/settings": "settings" };

/** The navigation holds the pages of the duty; the others are not reached by their path either, nor what they show. */
export async function rights(page, url, pages) {
  const shown = await page.getByRole("navigation").getByRole("listitem").allInnerTexts();
  const wanted = Object.keys(PAGES).filter((name) => pages.includes(name));
  if (shown.map((text) => text.trim()).join() !== wanted.join()) throw new Error(`the navigation shows ${shown}, not ${wanted}`);
  for (const [name, path] of Object.entries(PAGES)) {
    if (pages.includes(name)) continue;
    await page.goto(url + path);
    await page.getByRole("heading", { name: "您的职责看不到此页" }).waitFor();
    const status = ASKED[path] && (await page.evaluate((asked) => fetch(`/api/v1/${asked}`).then((answer) => answer.status), ASKED[path]));
    if (ASKED[path] && status !== 403) throw new Error(`${path}: ${status}`);
  }
  await page.goto(`${url}/`);
}

/** A user who has set no password yet, made past the form: the secret of the link. */
export async function newcomer(page, name = "newcomer") {
  return page.evaluate(async (name) => {
    const { csrf, user } = await (await fetch("/api/v1/session")).json();
    const body = JSON.stringify({ name, display_name: name, organization: user.organization.id, roles: ["operator"] });
    const answer = await fetch("/api/v1/users", { method: "POST", headers: { "content-type": "application/json", "x-csrf-token": csrf }, body });
    return (await answer.json()).invitation.url.split("#")[1];
  }, name);
}

/** A second link in the same tab is another page, though only what stands behind # differs. */
export async function otherLink(browser, security, url) {
  const { context, page, faults } = await visit(browser);
  const [one, other] = [await newcomer(security, "first-guest"), await newcomer(security, "second-guest")];
  await page.goto(`${url}/invitation#${one}`);
  await page.getByText("first-guest").first().waitFor();
  await page.getByLabel("新密码").fill("of the first alone");
  await page.goto(`${url}/invitation#${other}`);
  await page.getByText("second-guest").first().waitFor();
  if ((await page.getByLabel("新密码").inputValue()) !== "") throw new Error("the form holds what was typed for another link");
  await context.close();
  if (faults.length > 0) throw new Error(faults.join("\n"));
}
