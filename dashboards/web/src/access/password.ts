/** The rule for passwords, told while one types; the service decides. */

export const SHORTEST = 12;

export type PasswordFault = "short" | "name" | "different";

/** The first thing that is wrong with a new password. */
export function passwordFault(password: string, again: string, name: string): PasswordFault | null {
  if ([...password].length < SHORTEST) return "short";
  if (name && password.toLowerCase() === name.toLowerCase()) return "name";
  return password === again ? null : "different";
}
