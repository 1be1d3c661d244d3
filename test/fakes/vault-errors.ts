/** An answer that is no success, with the words that the real server has for it. */
export class VaultRefusal extends Error {
  readonly status: number;
  readonly errors: readonly string[];
  /** Said beside or in place of `errors`. */
  readonly body: object | undefined;

  constructor(status: number, errors: readonly string[], body?: object) {
    super(errors.join('; '));
    this.status = status;
    this.errors = errors;
    this.body = body;
  }
}

export const denied = (): VaultRefusal => new VaultRefusal(403, ['permission denied']);

export const badToken = (): VaultRefusal =>
  new VaultRefusal(403, ['2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n']);

export const noRoute = (path: string): VaultRefusal =>
  new VaultRefusal(404, [`no handler for route "${path}". route entry not found.`]);

/** What the engines do not know has no words at all. */
export const nothingThere = (): VaultRefusal => new VaultRefusal(404, []);

export const invalid = (...errors: readonly string[]): VaultRefusal =>
  new VaultRefusal(400, errors);
