import { readFile } from 'node:fs/promises';
import { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { printable } from '../table.ts';
import { type Flags, textFlags, type Verb, type VerbIo } from '../verb.ts';

const MAXIMUM_BYTES = 1024 * 1024;

export const apply: Verb = {
  path: ['apply'],
  positionals: [],
  summary: 'Declare backends, column classes and grants from YAML files, all or nothing',
  options: {
    file: { type: 'string', short: 'f', multiple: true },
    'dry-run': { type: 'boolean', default: false },
    prune: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const names = textFlags(flags, 'file');
  if (names.length === 0) throw new Fault('USAGE', 'apply: name at least one file with -f FILE');
  const files = await Promise.all(names.map(async (name) => ({ name, content: await read(name) })));
  const dryRun = flags['dry-run'] === true;
  const request = { files, dryRun, prune: flags.prune === true };
  const { changes } = await io.admin(ResourceService).apply(request, { signal: io.signal });
  if (flags.json === true) {
    const rows = changes.map(({ kind, name, action, differences, warnings }) => ({
      ...{ kind, name, action, differences, warnings },
    }));
    io.out(JSON.stringify(rows, undefined, 2));
    return;
  }
  for (const { kind, name, action, differences } of changes) {
    io.out(`${kind} ${name} ${action}${dryRun ? ' (dry run)' : ''}`);
    for (const line of differences) io.out(`  ${printable(line)}`);
  }
  for (const { warnings } of changes) {
    for (const line of warnings) io.err(`warning: ${printable(line)}`);
  }
}

async function read(name: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(name === '-' ? '/dev/stdin' : name);
  } catch (cause) {
    throw new Fault('USAGE', `cannot read ${name}: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length > MAXIMUM_BYTES) throw new Fault('USAGE', `${name} is larger than 1 MiB`);
  return bytes.toString('utf8');
}
