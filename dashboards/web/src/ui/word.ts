/** Words of names that the service says. */
import { useI18n } from "vue-i18n";

/** The word of a key, or the name itself where a newer service has one more. */
export function useWord(): (key: string, name: string) => string {
  const { t, te } = useI18n();
  return (key, name) => (te(key) ? t(key) : name);
}
