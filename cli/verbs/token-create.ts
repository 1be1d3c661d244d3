import { timestampDate } from '@bufbuild/protobuf/wkt';
import { JoinTokenService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

const MAXIMUM_TTL_SECONDS = 24 * 60 * 60;

export const tokenCreate: Verb = {
  path: ['token', 'create'],
  positionals: [],
  summary: 'Mint a single-use join token for one agent',
  options: {
    ttl: { type: 'string', default: '10m' },
    'agent-id': { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  run,
};

async function run(flags: Flags, io: VerbIo): Promise<void> {
  const ttlSeconds = parseDuration(textFlag(flags, 'ttl') ?? '10m', '--ttl', MAXIMUM_TTL_SECONDS);
  const agentId = textFlag(flags, 'agent-id') ?? '';
  const tokens = io.admin(JoinTokenService);
  const created = await tokens.createJoinToken({ ttlSeconds, agentId }, { signal: io.signal });
  if (created.expiresAt === undefined) throw new Fault('INTERNAL', 'a token without an end');
  const expires = timestampDate(created.expiresAt).toISOString();

  if (flags.json === true) {
    const { joinString, handle } = created;
    io.out(JSON.stringify({ join_string: joinString, handle, expires_at: expires }));
    return;
  }
  // The join string (token and SHA-256 of the bundle's root) alone goes to stdout, so that
  // `writ token create >FILE` works.
  io.out(created.joinString);
  io.err(`${created.handle} expires at ${expires}. It is shown once and admits one agent:`);
  io.err('put it into a file of mode 0600 and name that file in agent.yaml as join_string_file');
}
