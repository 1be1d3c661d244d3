import { readFile, writeFile } from 'node:fs/promises';
import { signerOfMessage } from '../../identity/ssh/signed-message.ts';
import {
  BackendService,
  ResourceService,
  SshService,
} from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { systemClock } from '../../runtime/clock.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { backendDatabase, urlOfDatabase } from '../backend-database.ts';
import { databaseUrl } from '../database-url.ts';
import type { DeclaredBackend } from '../postgres-check-subject.ts';
import type { GrantProof } from '../postgres-prove.ts';
import { printable } from '../table.ts';
import { ExitStatus, type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

export const backendProve: Verb = {
  path: ['backend', 'prove'],
  positionals: ['[BACKEND]'],
  summary: 'Log in as session roles, try to read classified columns, and sign what was found',
  options: {
    url: { type: 'string' },
    database: { type: 'string' },
    grant: { type: 'string' },
    every: { type: 'string' },
    out: { type: 'string' },
    verify: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  run,
};

const NAMESPACE = 'writ-proof';
const A_MONTH_SECONDS = 31 * 24 * 3600;
const MAXIMUM_BYTES = 4 * 1024 * 1024;

async function run(flags: Flags, io: VerbIo, [backend]: readonly string[]): Promise<void> {
  const file = textFlag(flags, 'verify');
  if (file !== undefined) return verify(file, io);
  if (backend === undefined)
    throw new Fault('USAGE', 'backend prove: name a backend, or --verify FILE');
  const every = textFlag(flags, 'every');
  const leaks =
    every === undefined
      ? await proveOnce(flags, io, backend)
      : await proveAgain(flags, io, {
          backend,
          everySeconds: parseDuration(every, '--every', A_MONTH_SECONDS),
        });
  if (leaks > 0) throw new ExitStatus(1);
}

/** Until it is interrupted. @returns how many leaks all rounds found */
async function proveAgain(
  flags: Flags,
  io: VerbIo,
  { backend, everySeconds }: { readonly backend: string; readonly everySeconds: number },
): Promise<number> {
  const { repeatProof } = await import('../repeat-proof.ts');
  const { driftOf } = await import('../postgres-prove.ts');
  let leaks = 0;
  await repeatProof({
    everySeconds,
    clock: systemClock,
    signal: io.signal,
    prove: async (why) => {
      io.err(`${new Date().toISOString()} proving ${why}`);
      leaks += await proveOnce(flags, io, backend);
    },
    drift: async () => driftOf((await subjectOf(flags, io, backend)).url),
    failed: (error) => {
      if (io.signal.aborted) return;
      io.err(`${new Date().toISOString()} ${Fault.from(error).message}`);
    },
  });
  return leaks;
}

/** What is declared now, and where it is. */
async function subjectOf(flags: Flags, io: VerbIo, backend: string) {
  const { declaredBackend } = await import('../postgres-check-subject.ts');
  const { resources } = await io.admin(ResourceService).listResources({}, { signal: io.signal });
  const declared = declaredBackend(backend, resources, (one) =>
    backendDatabase(flags, backend, one),
  );
  const url = urlOfDatabase(databaseUrl(flags, 'backend prove'), flags, declared.database);
  return { declared, url };
}

/** Tries, signs and tells. @returns how many leaks there are */
async function proveOnce(flags: Flags, io: VerbIo, backend: string): Promise<number> {
  const { leaksIn, proveGrant } = await import('../postgres-prove.ts');
  const { declared, url } = await subjectOf(flags, io, backend);
  const grants = grantsOf(flags, declared);
  const proofs: GrantProof[] = [];
  for (const grant of grants) {
    proofs.push(
      await proveGrant(url, declared, grant).catch((cause: Error) => {
        const message = `grant ${grant.name} cannot be tried: ${cause.message}`;
        throw new Fault('BACKEND_FAILED', message, { cause });
      }),
    );
  }
  const leaks = leaksIn(proofs);
  const { statement, signature } = await io
    .admin(BackendService)
    .signProof(
      { backend, report: JSON.stringify({ grants: proofs }), leaks },
      { signal: io.signal },
    );
  const signed = JSON.stringify({
    statement,
    signature: Buffer.from(signature).toString('base64'),
  });
  await write(textFlag(flags, 'out'), signed);
  if (flags.json === true) io.out(signed);
  else print(proofs, io);
  return leaks;
}

function grantsOf(flags: Flags, { name: backend, grants, classified }: DeclaredBackend) {
  const wanted = textFlag(flags, 'grant');
  const found = grants.filter(({ name }) => wanted === undefined || name === wanted);
  if (found.length === 0) {
    throw new Fault('USAGE', `backend ${backend} has no such grant to prove`);
  }
  if (classified.length === 0) {
    throw new Fault(
      'USAGE',
      `backend ${backend} has no classified column: there is nothing to prove`,
    );
  }
  return found;
}

async function write(file: string | undefined, signed: string): Promise<void> {
  if (file === undefined) return;
  await writeFile(file, `${signed}\n`).catch((cause: Error) => {
    throw new Fault('USAGE', `cannot write ${file}: ${cause.message}`, { cause });
  });
}

function print(proofs: readonly GrantProof[], io: VerbIo): void {
  for (const { grant, catalog, compared, attempts } of proofs) {
    const count = (verdict: string) => attempts.filter((one) => one.verdict === verdict).length;
    const sum = `${attempts.length} attempts, ${count('refused')} refused, ${count('masked')} masked, ${count('leak')} leaks`;
    io.out(`grant ${printable(grant)}: ${sum}; values of ${compared.length} columns compared`);
    for (const problem of catalog) io.out(`  LEAK by the catalog: ${printable(problem)}`);
    for (const { column, attempt, verdict } of attempts) {
      if (verdict === 'leak') io.out(`  LEAK ${printable(column)}: ${attempt}`);
    }
  }
}

/** Whether this trust domain's server signed the file, and whether it tells of a leak. */
async function verify(file: string, io: VerbIo): Promise<void> {
  const { statement, signature } = await readSigned(file);
  const keys = await io.admin(SshService).listSshAuthorities({}, { signal: io.signal });
  const signer = signerOfMessage(
    NAMESPACE,
    Buffer.from(statement),
    Buffer.from(signature, 'base64'),
  );
  if (!keys.user.some((key) => Buffer.from(key).equals(signer))) {
    throw new Fault('SSH_INVALID', `${file} is signed by a key that this server does not trust`);
  }
  const { backend, signed_at: at, leaks } = JSON.parse(statement) as Record<string, unknown>;
  io.out(
    `backend ${printable(String(backend))}, signed ${printable(String(at))}: ${String(leaks)} leaks`,
  );
  if (leaks !== 0) throw new ExitStatus(1);
}

async function readSigned(file: string): Promise<{ statement: string; signature: string }> {
  try {
    const bytes = await readFile(file);
    if (bytes.length > MAXIMUM_BYTES) throw new Error('too large');
    const { statement, signature } = JSON.parse(bytes.toString()) as Record<string, unknown>;
    if (typeof statement === 'string' && typeof signature === 'string')
      return { statement, signature };
    throw new Error('no proof');
  } catch (cause) {
    throw new Fault('USAGE', `${file} is no signed proof of writ backend prove`, { cause });
  }
}
