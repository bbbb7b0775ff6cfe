/** What the service finds wrong with a form. */
import { type Ref, computed } from "vue";
import { Refusal } from "./request";

/** Of what failed: what is said of a field, and what failed as a whole and stands above them. */
export function useFaults(failed: Readonly<Ref<unknown>>) {
  const fields = computed(() => (failed.value instanceof Refusal ? failed.value.fields : []));
  return {
    said: (name: string) => fields.value.find(({ field }) => field === name)?.message ?? null,
    whole: computed(() => (fields.value.length === 0 ? failed.value : null)),
  };
}
