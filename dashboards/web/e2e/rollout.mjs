/** A roll-out as an operator orders it: to this machine's own SSH server, which shows its key for the first time, as a dry run. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { until } from "./control.mjs";
import { screenshot } from "./walk.mjs";

const SERVER = "/usr/sbin/sshd";
const row = (page, text) => page.getByRole("row").filter({ hasText: text });

/** The agents of this machine as programs to roll out, in a directory. */
export function packages(directory, binaries) {
  mkdirSync(directory, { recursive: true });
  const architecture = execFileSync("uname", ["-m"], { encoding: "utf8" }).trim();
  const all = ["tongtu-agent", "tongtu-agent-libvirt"].map((program) => {
    const bytes = readFileSync(join(binaries, program));
    writeFileSync(join(directory, program), bytes);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    return { program, version: "0.1.0", architecture, glibc: "2.17", sha256, size: bytes.length, file: program };
  });
  writeFileSync(join(directory, "manifest.json"), JSON.stringify({ packages: all }));
}

function free() {
  return new Promise((found) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });
}

/** The real SSH server with keys of its own; null where there is none. */
async function machine() {
  if (!existsSync(SERVER) || userInfo().uid !== 0) return null;
  const folder = mkdtempSync(join(tmpdir(), "tongtu-sshd-"));
  mkdirSync("/run/sshd", { recursive: true });
  for (const name of ["host", "user"]) execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", join(folder, name)]);
  const port = await free();
  writeFileSync(
    join(folder, "config"),
    `Port ${port}\nListenAddress 127.0.0.1\nHostKey ${folder}/host\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nAuthorizedKeysFile ${folder}/user.pub\n`,
  );
  chmodSync(folder, 0o755);
  const child = spawn(SERVER, ["-D", "-e", "-f", join(folder, "config")], { stdio: "ignore" });
  const listens = () => new Promise((said) => {
    const socket = connect(port, "127.0.0.1", () => { socket.destroy(); said(true); });
    socket.once("error", () => said(false));
  });
  await until("the SSH server listens", listens);
  const fingerprint = execFileSync("ssh-keygen", ["-lf", join(folder, "host.pub")], { encoding: "utf8" }).split(" ")[1];
  const stop = async () => {
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { place: `root@127.0.0.1:${port}`, key: readFileSync(join(folder, "user"), "utf8"), fingerprint, stop };
}

/** Orders it, compares the fingerprint, goes on, and reads what would be done. */
export async function rollout(page, url) {
  const there = await machine();
  if (!there) {
    if (process.env.CI) throw new Error("there is no SSH server to roll out to (scripts/install.sh test)");
    return "SKIPPED: there is no SSH server to roll out to";
  }
  try {
    await page.goto(`${url}/rollouts`);
    await page.getByRole("heading", { name: "还没有部署过探针" }).waitFor();
    await screenshot(page, "rollouts-empty");
    await page.getByRole("button", { name: "新建部署" }).first().click();
    const dialog = page.getByRole("dialog", { name: "新建部署" });
    // Either agent, with what it needs and what control has of it.
    const program = dialog.getByRole("combobox", { name: "探针", exact: true });
    await program.selectOption("宿主机探针");
    await dialog.getByText("需要目标主机的 libvirt 及其只读套接字").waitFor();
    await dialog.getByText(/^宿主机探针 0\.1\.0 /).waitFor();
    await screenshot(page, "rollout-new-libvirt");
    await program.selectOption("主机探针");
    await dialog.getByRole("textbox", { name: "主机", exact: true }).fill("two words\n127.0.0.1");
    await dialog.getByRole("textbox", { name: "私钥", exact: true }).fill(there.key);
    const begin = dialog.getByRole("button", { name: "开始试运行" });
    await begin.click();
    await dialog.getByText("第 1 台：应为主机名或 IP 地址").waitFor();
    await dialog.getByRole("textbox", { name: "主机", exact: true }).fill(`${there.place}, 东机房`);
    await screenshot(page, "rollout-new");
    await begin.click();

    // Nothing is sent to a machine that nobody knows: its fingerprint is compared first.
    await page.waitForURL(`${url}/rollouts/rollout_1`);
    await row(page, "127.0.0.1").filter({ hasText: "失败" }).waitFor();
    await row(page, "127.0.0.1").filter({ hasText: there.fingerprint }).waitFor();
    await screenshot(page, "rollout-first-contact");
    await row(page, "127.0.0.1").click();
    const drawer = page.getByRole("dialog", { name: "127.0.0.1" });
    await drawer.getByText(there.fingerprint).first().waitFor();
    await screenshot(page, "rollout-compare");
    await drawer.getByRole("button", { name: "指纹一致，确认" }).click();
    await page.getByText(/已确认 127\.0\.0\.1:\d+ 的主机密钥/).waitFor();
    await page.keyboard.press("Escape");

    await page.getByRole("button", { name: "继续未完成的主机" }).click();
    const resume = page.getByRole("dialog", { name: "继续未完成的主机" });
    await resume.getByRole("button", { name: "继续未完成的主机" }).click();
    await resume.getByText("需要口令或私钥").waitFor();
    await resume.getByRole("textbox", { name: "私钥", exact: true }).fill(there.key);
    await resume.getByRole("button", { name: "继续未完成的主机" }).click();
    await resume.waitFor({ state: "detached" });
    await row(page, "127.0.0.1").filter({ hasText: "完成" }).waitFor();
    await row(page, "127.0.0.1").click();
    await drawer.getByText("将会：上传程序并核对 SHA-256").waitFor();
    await drawer.getByText("将会：等待控制端收到它的第一条记录").waitFor();
    await screenshot(page, "rollout-dry-run");
    if ((await drawer.innerText()).includes("PRIVATE KEY")) throw new Error("a key is shown");
    await page.keyboard.press("Escape");
    await page.goto(`${url}/rollouts`);
    await row(page, "rollout_1").filter({ hasText: "完成 1" }).filter({ hasText: "主机探针" }).waitFor();
    await page.getByRole("button", { name: "主机密钥", exact: true }).click();
    await page.getByRole("dialog", { name: "主机密钥" }).getByText(there.fingerprint).waitFor();
    await screenshot(page, "rollout-host-keys");
    await page.keyboard.press("Escape");
  } finally {
    await there.stop();
  }
}
