/** The datastores that the rows of `entries` run on. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { availableVersions, startPostgres } from '../fixtures/postgres.ts';

export interface BenchStore extends AsyncDisposable {
  readonly name: string;
  /** What the server's configuration says of it. */
  readonly config: object;
}

const NOTHING = async () => undefined;

/** As durable as one that somebody runs, unlike those of tests. */
const DURABLE = {
  ...{ fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' },
  shared_buffers: '128MB',
};

/** SQLite in the server's state directory, and a PostgreSQL of the benchmark's own where there is one. */
export const BENCH_STORES: readonly ((folder: string) => Promise<BenchStore | undefined>)[] = [
  async () => ({ name: 'SQLite', config: {}, [Symbol.asyncDispose]: NOTHING }),
  async (folder) => {
    if (!availableVersions().includes(18)) return undefined;
    const server = await startPostgres({ version: 18, settings: DURABLE });
    const file = join(folder, 'database-url');
    await writeFile(file, server.superuserUrl, { mode: 0o600 });
    return {
      name: 'PostgreSQL',
      config: { datastore: { postgres: { url_file: file } } },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  },
];
