/** In the demo `writ up` plays the database administrator: it runs what `writ backend setup` prints. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fromBinary } from '@bufbuild/protobuf';
import pg from 'pg';
import { AuditService, BackendService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { EventSchema } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import { systemClock } from '../../runtime/clock.ts';
import { readCatalog, withPostgres } from '../postgres-catalog.ts';
import type { VerbIo } from '../verb.ts';
import type { DemoDatabase } from './demo-database.ts';
import { BACKEND } from './demo-resources.ts';

export const LOGIN = 'writ_gateway';
const RETRY_MS = 1000;

/** The password of the gateway's login, made once, in a file that the gateway alone reads. */
export async function ensureLoginPassword(file: string): Promise<string> {
  const found = await readFile(file, 'utf8').catch(() => '');
  if (found !== '') return found.trim();
  const password = randomBytes(24).toString('hex');
  await writeAtomic(file, Buffer.from(`${password}\n`), 0o600);
  return password;
}

/** Runs the setup of the demo's backend as its superuser. */
export async function setUpBackend(
  database: DemoDatabase,
  password: string,
  io: Pick<VerbIo, 'admin' | 'signal'>,
): Promise<void> {
  await withPostgres({ connectionString: database.url }, async (client) => {
    const catalog = await readCatalog(client, LOGIN);
    const plan = await io
      .admin(BackendService)
      .planBackendSetup({ backend: BACKEND, catalog }, { signal: io.signal });
    await client.query(plan.sql);
    await client.query('set log_min_error_statement = panic');
    await client.query(`alter role ${LOGIN} login password ${pg.escapeLiteral(password)}`);
  });
}

/**
 * Runs the setup again after each change of the server's resources, until `signal` aborts, so that
 * `writ apply` takes effect at once here.
 */
export async function keepBackendSetUp(
  database: DemoDatabase,
  password: string,
  io: Pick<VerbIo, 'admin' | 'signal' | 'err'>,
): Promise<void> {
  // What changed while nobody listened is made good by a setup before each listening.
  for (let first = true; !io.signal.aborted; first = false) {
    try {
      if (!first) await setUpBackend(database, password, io);
      const request = { last: 1, follow: true };
      for await (const { event } of io
        .admin(AuditService)
        .tailEvents(request, { signal: io.signal })) {
        if (event !== undefined && concernsSetup(event.body)) {
          await setUpBackend(database, password, io);
        }
      }
    } catch (error) {
      if (io.signal.aborted) return;
      io.err(`setting up the demo database: ${(error as Error).message}; trying again`);
      await systemClock.wait(RETRY_MS, io.signal).catch(() => undefined);
    }
  }
}

function concernsSetup(body: Uint8Array): boolean {
  return fromBinary(EventSchema, body).type.startsWith('resource.');
}
