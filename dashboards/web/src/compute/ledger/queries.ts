/** What the page of the ledger asks, and the imports that are begun on it. */
import { useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api, everything } from "@/session/request";

type Schemas = components["schemas"];
export type Entry = Schemas["Reconciled"];
export type Standing = Entry["standing"];
export type Import = Schemas["ImportReport"];
export type LineChange = Schemas["LineChange"];
const PAGE = 10_000;
/** The list is not pushed. */
const EVERY = 30_000;
const EVERY_WHILE_GOING = 500;
/** Changes of an import that are shown; the counts tell of all. */
export const MOST_CHANGES = 500;

/** The whole ledger beside what is measured. */
export function useLedger() {
  return useQuery({
    queryKey: ["ledger", "all"],
    queryFn: async ({ signal }) => {
      let imported: Schemas["Imported"] | null = null;
      const items = await everything(async (after) => {
        const page = await answer(api.GET("/api/v1/ledger", { params: { query: { after, limit: PAGE } }, signal }));
        imported = page.imported ?? null;
        return page;
      });
      return { items, imported: imported as Schemas["Imported"] | null };
    },
    refetchInterval: EVERY,
    structuralSharing: false,
    shallow: true,
  });
}

export const isGoing = (one: Import | undefined) => one !== undefined && one.ended_ms == null;

const path = (id: string) => ({ path: { id } });

/** How far an import is, until it is over. */
export function useImport(id: Ref<string | null>) {
  return useQuery(
    computed(() => ({
      queryKey: ["imports", "one", id.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/ledger/imports/{id}", { params: path(id.value ?? ""), signal })),
      enabled: id.value !== null,
      refetchInterval: (query: { state: { data?: Import } }) => (isGoing(query.state.data) ? EVERY_WHILE_GOING : (false as const)),
    })),
  );
}

/** The first changes of an import that is over. */
export function useImportChanges(id: Ref<string | null>, isOver: Ref<boolean>) {
  return useQuery(
    computed(() => ({
      queryKey: ["imports", "changes", id.value],
      queryFn: async ({ signal }: { signal: AbortSignal }) => (await answer(api.GET("/api/v1/ledger/imports/{id}/changes", { params: { ...path(id.value ?? ""), query: { limit: MOST_CHANGES } }, signal }))).items,
      enabled: id.value !== null && isOver.value,
    })),
  );
}

/** The file goes as it is. */
export const beginImport = (file: File, dry_run: boolean, replace: boolean) =>
  answer(
    api.POST("/api/v1/ledger/imports", {
      params: { query: { dry_run, replace, file: file.name } },
      body: "",
      bodySerializer: () => file,
      headers: { "content-type": "application/octet-stream" },
    }),
  );

export const TEMPLATE = "/api/v1/ledger/template";
export const failedRows = (id: string) => `/api/v1/ledger/imports/${encodeURIComponent(id)}/failed`;

/** What an import changes. */
export const CONCERNED = ["ledger", "vms", "capacity", "review", "providers"] as const;
