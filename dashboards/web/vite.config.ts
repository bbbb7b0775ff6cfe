import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vitest/config";

/** `npm run dev` against a running control: TONGTU=http://127.0.0.1:6480, and its token while nobody has logged in. */
const control = process.env.TONGTU ?? "http://127.0.0.1:6480";
const token = process.env.TONGTU_TOKEN_FILE && readFileSync(process.env.TONGTU_TOKEN_FILE, "utf8").trim();

export default defineConfig({
  plugins: [vue()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  define: {
    __VUE_OPTIONS_API__: false,
    __VUE_PROD_DEVTOOLS__: false,
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: false,
    __VUE_I18N_FULL_INSTALL__: false,
    __VUE_I18N_LEGACY_API__: false,
    __INTLIFY_PROD_DEVTOOLS__: false,
    __INTLIFY_DROP_MESSAGE_COMPILER__: false,
  },
  build: {
    target: "es2022",
    // Small parts would be inlined as data: URLs otherwise, which the policy of the pages refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      "/api": { target: control, headers: token ? { authorization: `Bearer ${token}` } : {} },
      "/readyz": control,
    },
  },
  test: { include: ["tests/**/*.test.ts", "src/**/*.test.ts"] },
});
