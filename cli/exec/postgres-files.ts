import { bundleToPem } from '../../identity/bundle.ts';
import { svidPem } from '../../identity/x509-svid.ts';
import { Closers } from '../../runtime/closers.ts';
import type { WatchedSource } from '../../runtime/watched.ts';
import type { JobState } from './job-identity.ts';
import { MemoryFile } from './memory-file.ts';

/** The default identity as libpq takes it, kept fresh until it is disposed of. */
export interface PostgresFiles extends AsyncDisposable {
  readonly environment: Readonly<Record<string, string>>;
}

/** @throws Fault STATE_UNUSABLE */
export async function postgresFiles(state: WatchedSource<JobState>): Promise<PostgresFiles> {
  const closers = new Closers();
  const file = () => {
    const made = new MemoryFile();
    closers.defer(() => made[Symbol.dispose]());
    return made;
  };
  try {
    const [certificate, key, roots] = [file(), file(), file()];
    const write = ({ svids: [first], bundle }: JobState) => {
      if (first === undefined) return;
      const pem = svidPem(first.svid);
      roots.write(Buffer.from(bundleToPem(bundle)));
      key.write(Buffer.from(pem.key));
      certificate.write(Buffer.from(pem.certificates));
    };
    write(state.value);
    const stop = new AbortController();
    const following = (async () => {
      for await (const value of state.values(stop.signal)) write(value);
    })();
    closers.defer(async () => {
      stop.abort();
      await following;
    });
    const environment = {
      PGSSLMODE: 'verify-full',
      PGSSLCERT: certificate.path,
      PGSSLKEY: key.path,
      PGSSLROOTCERT: roots.path,
    };
    return { environment, [Symbol.asyncDispose]: () => closers[Symbol.asyncDispose]() };
  } catch (error) {
    await closers[Symbol.asyncDispose]();
    throw error;
  }
}
