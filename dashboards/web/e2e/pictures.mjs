/**
 * The pictures of the cloud in the README, made of one that runs: `tests/lab/cloud up`, a quarter of an hour, then
 * `node e2e/pictures.mjs URL`, with the URL that it said.
 */
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { executablePath } from "./chromium.mjs";
import { enter } from "./people.mjs";
import { visit } from "./walk.mjs";

const url = process.argv[2]?.replace(/\/$/, "");
if (!url) throw new Error("usage: node e2e/pictures.mjs URL");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const { page, faults } = await visit(browser);
  const picture = (name) => page.screenshot({ path: fileURLToPath(new URL(`../picture-${name}.png`, import.meta.url)) });
  await enter(page, url, "operator", "/overview");
  await page.goto(`${url}/cloud`);
  await page.getByRole("heading", { name: "还能容纳多少虚拟机" }).waitFor();
  await page.locator(".top-vms li").nth(3).waitFor();
  await picture("cloud");
  await page.goto(`${url}/vms`);
  await page.getByRole("link", { name: "permits-1", exact: true }).click();
  await page.getByRole("button", { name: "15 分钟" }).click();
  await page.locator("figure canvas").nth(3).waitFor();
  await picture("vm");
  if (faults.length > 0) throw new Error(faults.join("\n"));
} finally {
  await browser.close();
}
