/** Hosts in Ctrl-K: asked from the service while one types. */
import { keepPreviousData, useQuery } from "@tanstack/vue-query";
import { type Ref, computed, ref, watch } from "vue";
import { useI18n } from "vue-i18n";
import { answer, api } from "@/session/request";
import { useSession } from "@/session/store";
import { useQuickActions } from "@/ui/quick";

const WAIT = 150;
const MOST = 20;

export function useHostActions(typed: Ref<string>, go: (id: string) => void): void {
  const { t } = useI18n();
  const session = useSession();
  const search = ref("");
  let timer: ReturnType<typeof setTimeout> | undefined;
  watch(typed, (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => (search.value = text.trim()), WAIT);
  });
  const found = useQuery({
    queryKey: ["hosts", "search", search],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/hosts", { params: { query: { search: search.value, limit: MOST } }, signal })),
    enabled: () => search.value.length > 1 && session.may("hosts.see").ok,
    placeholderData: keepPreviousData,
    shallow: true,
  });
  useQuickActions(
    computed(() =>
      search.value ? (found.data.value?.items ?? []).map((host) => ({ key: host.id, label: host.name, group: t("page.hosts"), words: search.value, icon: "host" as const, run: () => go(host.id) })) : [],
    ),
  );
}
