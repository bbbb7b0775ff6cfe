import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import vue from "@vitejs/plugin-vue";
import type { Rollup } from "vite";
import { defineConfig } from "vitest/config";

/** `npm run dev` against a running control: TONGTU=http://127.0.0.1:6480, and its token while nobody has logged in. */
const control = process.env.TONGTU ?? "http://127.0.0.1:6480";
const token = process.env.TONGTU_TOKEN_FILE && readFileSync(process.env.TONGTU_TOKEN_FILE, "utf8").trim();

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url));

/** The files of the build: what the start imports is one, what pages are made of another. Each file costs a request. */
function chunk(id: string, { getModuleInfo }: Rollup.ManualChunkMeta): string | undefined {
  const start = new Set([source("main.ts")]);
  for (const one of start) for (const imported of getModuleInfo(one)?.importedIds ?? []) start.add(imported);
  if (start.has(id)) return "start";
  return id.startsWith(source("ui/")) && !id.startsWith(source("ui/chart/")) ? "ui" : undefined;
}

/** Chromium compiles a file that begins so as a whole while it comes, not function by function when each is called. */
const compiledAhead = {
  name: "compiled-ahead",
  generateBundle: {
    // Behind what Vite puts before the code: only a first line counts.
    order: "post" as const,
    handler(_: unknown, bundle: Rollup.OutputBundle) {
      for (const file of Object.values(bundle)) if (file.type === "chunk") file.code = `//# allFunctionsCalledOnLoad\n${file.code}`;
    },
  },
};

export default defineConfig({
  plugins: [vue(), compiledAhead],
  resolve: { alias: { "@": source("") } },
  define: {
    __VUE_OPTIONS_API__: false,
    __VUE_PROD_DEVTOOLS__: false,
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: false,
    __VUE_I18N_FULL_INSTALL__: false,
    __VUE_I18N_LEGACY_API__: false,
    __INTLIFY_PROD_DEVTOOLS__: false,
    __INTLIFY_DROP_MESSAGE_COMPILER__: true,
  },
  build: {
    target: "es2022",
    // Small parts would be inlined as data: URLs otherwise, which the policy of the pages refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rollupOptions: { output: { manualChunks: chunk } },
  },
  server: {
    proxy: {
      "/api": { target: control, headers: token ? { authorization: `Bearer ${token}` } : {} },
      "/readyz": control,
    },
  },
  test: { include: ["tests/**/*.test.ts", "src/**/*.test.ts"] },
});
