/** The shape of backends of type ssh and of the grants on them. */
import { isIPv6 } from 'node:net';
import * as v from 'valibot';
import { parsePublicKeyLine } from '../../../identity/ssh/public-key.ts';
import { Fault } from '../../../runtime/fault.ts';
import {
  backendFields,
  grantFields,
  HIDDEN_KEYS,
  isHost,
  keysBy,
  sessionFields,
} from './document-fields.ts';

const SSH_PORT = 22;
const MAXIMUM_KEYS = 16;
const MAXIMUM_LOGINS = 100;
const MAXIMUM_COMMANDS = 100;
const MAXIMUM_WORDS = 100;
const MAXIMUM_KEY_LINE = 16_384;

const LOGIN = /^[a-z_][a-z0-9_-]{0,31}$/;
const A_LOGIN = 'a login: 1 to 32 of a-z 0-9 _ -, beginning with a-z or _';

const login = v.pipe(v.string(), v.regex(LOGIN, A_LOGIN));

function loginProblem(text: string): string | undefined {
  if (HIDDEN_KEYS.includes(text)) return `no login named ${HIDDEN_KEYS.join(', ')}`;
  return LOGIN.test(text) ? undefined : A_LOGIN;
}

const ADDRESS = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([^:[\]]{1,253}))(?::(\d{1,5}))?$/;

const address = v.pipe(
  v.string(),
  v.rawTransform<string, { host: string; port: number }>(({ dataset, addIssue, NEVER }) => {
    const [, bracketed, plain, digits] = ADDRESS.exec(dataset.value) ?? [];
    const host = bracketed ?? plain ?? '';
    const port = digits === undefined ? SSH_PORT : Number(digits);
    const isFit = bracketed === undefined ? isHost(host) : isIPv6(host);
    if (isFit && port >= 1 && port <= 65_535) return { host, port };
    addIssue({ message: 'host, host:port or [IPv6]:port, e.g. web-1.internal:22' });
    return NEVER;
  }),
);

/** A key's blob. */
const hostKey = v.pipe(
  v.string(),
  v.maxLength(MAXIMUM_KEY_LINE, `at most ${MAXIMUM_KEY_LINE} characters`),
  v.rawTransform<string, Uint8Array>(({ dataset, addIssue, NEVER }) => {
    try {
      return parsePublicKeyLine(dataset.value);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      addIssue({ message: "a host's public key, e.g. ssh-ed25519 AAAA..., and no certificate" });
      return NEVER;
    }
  }),
);

const oneHostKey = v.pipe(
  hostKey,
  v.transform((key) => [key]),
);

const hostKeyList = v.pipe(
  v.array(hostKey),
  v.minLength(1, 'at least one key'),
  v.maxLength(MAXIMUM_KEYS, `at most ${MAXIMUM_KEYS} keys`),
  v.check((keys) => areDistinct(keys.map((key) => Buffer.from(key).toString('hex'))), 'each once'),
);

const hostKeys = v.lazy<typeof oneHostKey | typeof hostKeyList>((input) =>
  Array.isArray(input) ? hostKeyList : oneHostKey,
);

const logins = v.pipe(
  v.unknown(),
  keysBy(loginProblem),
  v.record(v.string(), v.strictObject({ account: v.optional(login) })),
  v.check((all) => Object.keys(all).length > 0, 'at least one login'),
  v.check((all) => Object.keys(all).length <= MAXIMUM_LOGINS, `at most ${MAXIMUM_LOGINS} logins`),
);

/** A backend of type ssh. */
export const sshBackendSchema = v.strictObject({
  ...backendFields,
  type: v.literal('ssh'),
  ssh: v.pipe(
    v.strictObject({
      address,
      host_ca: v.optional(v.literal('trust-domain', 'trust-domain')),
      host_key: v.optional(hostKeys),
      logins,
    }),
    v.check(
      ({ host_ca, host_key }) => (host_ca === undefined) !== (host_key === undefined),
      'either host_ca or host_key, one of them',
    ),
  ),
});

/** Nothing in it means something to a shell, so that a command line is its words, one space between. */
const WORD = /^[A-Za-z0-9_@%+=:,./-]{1,1024}$/;

const command = v.pipe(
  v.array(v.pipe(v.string(), v.regex(WORD, 'a plain word: A-Z a-z 0-9 _ @ % + = : , . / - alone'))),
  v.minLength(1, 'the words of a command'),
  v.maxLength(MAXIMUM_WORDS, `at most ${MAXIMUM_WORDS} words`),
  v.transform((words) => words.join(' ')),
);

const commands = v.pipe(
  v.array(command),
  v.minLength(1, 'at least one command, or true for all'),
  v.maxLength(MAXIMUM_COMMANDS, `at most ${MAXIMUM_COMMANDS} commands`),
  v.check(areDistinct, 'each command once'),
);

const everyCommand = v.boolean('true, false or a list of commands, each a list of words');

const exec = v.lazy<typeof commands | typeof everyCommand>((input) =>
  Array.isArray(input) ? commands : everyCommand,
);

const channels = v.pipe(
  v.strictObject({
    shell: v.optional(v.boolean('true or false'), false),
    exec: v.optional(exec, false),
    sftp: v.optional(
      v.boolean('true or false (limits on paths are not supported by this version)'),
      false,
    ),
  }),
  v.check(
    (given) => Object.values(given).some((one) => one !== false),
    'at least one of shell, exec and sftp that is true',
  ),
);

const WHOLE = { shell: true, exec: true, sftp: true };

/** A grant on a backend of type ssh. */
export const sshGrantSchema = v.strictObject({
  ...grantFields,
  session: v.strictObject(sessionFields),
  ssh: v.strictObject({
    logins: v.pipe(
      v.array(login),
      v.minLength(1, 'at least one login'),
      v.maxLength(MAXIMUM_LOGINS, `at most ${MAXIMUM_LOGINS} logins`),
      v.check(areDistinct, 'each login once'),
    ),
    channels: v.optional(channels, WHOLE),
    approval: v.optional(
      v.custom<never>(() => false, 'no approval, which is not supported by this version'),
    ),
  }),
});

function areDistinct(list: string[]): boolean {
  return new Set(list).size === list.length;
}
