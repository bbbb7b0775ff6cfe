/** Hosts and virtual machines in Ctrl-K: asked from the service while one types. */
import { keepPreviousData, useQuery } from "@tanstack/vue-query";
import { type Ref, computed, ref, watch } from "vue";
import { useI18n } from "vue-i18n";
import { paths } from "@/paths";
import { answer, api } from "@/session/request";
import { useSession } from "@/session/store";
import { useQuickActions } from "@/ui/quick";

const WAIT = 150;
const MOST = 20;

export function useFoundActions(typed: Ref<string>, go: (path: string) => void): void {
  const { t } = useI18n();
  const session = useSession();
  const search = ref("");
  let timer: ReturnType<typeof setTimeout> | undefined;
  watch(typed, (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (search.value = text.trim()), WAIT);
  });
  const asked = { enabled: () => search.value.length > 1 && session.may("hosts.see").ok, placeholderData: keepPreviousData, shallow: true };
  const hosts = useQuery({
    queryKey: ["hosts", "search", search],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/hosts", { params: { query: { search: search.value, limit: MOST } }, signal })),
    ...asked,
  });
  const vms = useQuery({
    queryKey: ["vms", "search", search],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/vms", { params: { query: { search: search.value, limit: MOST } }, signal })),
    ...asked,
  });
  useQuickActions(
    computed(() => {
      const words = search.value;
      if (!words) return [];
      return [
        ...(hosts.data.value?.items ?? []).map(({ id, name }) => ({ key: id, label: name, group: t("page.hosts"), words, icon: "host" as const, run: () => go(paths.host(id)) })),
        ...(vms.data.value?.items ?? []).map(({ id, name }) => ({ key: id, label: name, group: t("page.vms"), words, icon: "vm" as const, run: () => go(paths.vm(id)) })),
      ];
    }),
  );
}
