import { chmod, constants, access as probe } from 'node:fs/promises';
import type { TrustDomain } from '../identity/spiffe-id.ts';
import { Fault } from '../runtime/fault.ts';
import { makeDirectory } from '../runtime/make-directory.ts';
import type { Datastore } from './plugins/datastore/datastore.ts';
import { text } from './plugins/datastore/row.ts';

/**
 * Makes the state directory, and closes it to others.
 * @throws Fault STATE_UNUSABLE
 */
export async function prepareStateDir(directory: string): Promise<void> {
  try {
    await makeDirectory(directory, 0o700);
    await chmod(directory, 0o700);
    await probe(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw new Fault('STATE_UNUSABLE', `state directory ${directory} cannot be used: ${code}`, {
      cause: error,
    });
  }
}

/**
 * Ties the store to one trust domain for good.
 * @throws Fault STATE_UNUSABLE if it is another's
 */
export async function claimTrustDomain(
  store: Datastore,
  directory: string,
  trustDomain: TrustDomain,
): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.run(
      `insert into meta (key, value) values ('trust_domain', ?) on conflict (key) do nothing`,
      trustDomain,
    );
    const row = await tx.get(`select value from meta where key = 'trust_domain'`);
    const owner = row === undefined ? '' : text(row, 'value');
    if (owner === trustDomain) return;
    throw new Fault(
      'STATE_UNUSABLE',
      `state directory ${directory} belongs to trust domain ${owner}, not ${trustDomain}`,
    );
  });
}
