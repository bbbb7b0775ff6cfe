/** What opens on pages: dialogs, questions before something is done, menus. Each leaves it open, to be looked at. */

const press = (name) => (page) => page.getByRole("button", { name, exact: true }).click();
const dialog = (name) => async (page) => {
  await press(name)(page);
  await page.getByRole("dialog", { name }).waitFor();
};
async function columns(page) {
  await page.locator("summary", { hasText: "列" }).click();
  await page.getByRole("checkbox").first().waitFor();
}
/** A button of a row or drawer that asks before it acts. */
async function asks(page, within, name) {
  await within.getByRole("button", { name }).first().click();
  await page.getByRole("dialog").last().getByRole("button", { name: "取消" }).waitFor();
}

/** By path; of operators and security administrators. */
export const OPENS = {
  "/overview": {
    "Ctrl-K": async (page) => {
      await page.keyboard.press("Control+k");
      await page.getByRole("option").first().waitFor();
    },
  },
  "/hosts": { columns },
  "/agents": {
    columns,
    enrol: dialog("登记探针"),
    "enrol command": async (page) => {
      await dialog("登记探针")(page);
      await page.getByRole("button", { name: "生成命令" }).click();
      await page.getByRole("textbox", { name: "登记命令" }).waitFor();
    },
    "enrolment tokens": dialog("登记令牌"),
    "revoke a token": async (page) => {
      await dialog("登记令牌")(page);
      await asks(page, page.getByRole("dialog"), /^吊销 enrolment_/);
    },
    revoke: async (page) => {
      await page.getByRole("row").filter({ hasText: "agent_1" }).click();
      await asks(page, page.getByRole("dialog").first(), "吊销");
    },
  },
  "/rollouts": { "new roll-out": dialog("新建部署"), "host keys": dialog("主机密钥") },
  "/vms": { columns },
  "/ledger": {
    columns,
    import: dialog("导入台账"),
    entry: async (page) => {
      await page.getByRole("row").filter({ hasText: "jia-01" }).click();
      await page.getByRole("dialog", { name: "jia-01" }).waitFor();
    },
  },
  "/providers": {
    "new provider": dialog("新建云服务商"),
    delete: (page) => asks(page, page.getByRole("row").filter({ hasText: "备用云" }), "删除"),
  },
  "/users": { "new user": dialog("新建用户") },
  "/organizations": { "new organisation": dialog("新建组织") },
  "/tokens": {
    "new token": dialog("新建令牌"),
    revoke: (page) => asks(page, page.getByRole("row").filter({ hasText: "api-token" }), "吊销"),
  },
};

/** Of the system administrator. */
export const SETTINGS_OPENS = {
  "/settings": {
    retention: async (page) => {
      await page.locator("section").filter({ has: page.getByRole("heading", { name: "保留期", exact: true }) }).getByRole("button", { name: "修改" }).click();
      await page.getByLabel("原始帧").waitFor();
    },
    schedule: async (page) => {
      await press("自动备份")(page);
      await page.getByLabel("保留份数").waitFor();
    },
    "delete backup": (page) => asks(page, page, /^删除 \d/),
  },
};
