/** Why a session does not open: `cause` of a closed set for the audit, `says` for the client. */
export interface Refusal {
  readonly cause: string;
  readonly says: string;
}

/** Makes a refusal. */
export function refusal(cause: string, says: string): Refusal {
  return { cause, says };
}

/** Tells a refusal from what was found. */
export function isRefusal(outcome: object): outcome is Refusal {
  return 'says' in outcome;
}
