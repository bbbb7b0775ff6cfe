/** How an organisation is called: the root has a name in each language until somebody gives it one. Pure. */

/** The root as the service makes it. */
const ROOT = { id: "org_1", name: "root" };

export function organizationName(id: string, name: string, t: (key: string) => string): string {
  return id === ROOT.id && name === ROOT.name ? t("organizations.root") : name;
}
