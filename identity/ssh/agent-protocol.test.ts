import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  handMadeSshCertificate,
  newSshKey,
} from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { OPENSSH_SESSION_BIND } from '../../test/fixtures/openssh-login.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import { AgentFrames } from './agent-frames.ts';
import {
  type AgentRequest,
  agentExtensions,
  agentFailure,
  agentIdentities,
  agentSignature,
  agentSuccess,
  parseAgentRequest,
} from './agent-protocol.ts';
import { parseSshCertificate } from './certificate.ts';
import { encodePublicKey, fingerprint, publicKeyLine } from './public-key.ts';
import { signSsh, verifySsh } from './signature.ts';
import { SshReader, SshWriter } from './wire.ts';

const run = promisify(execFile);
const KEY = newSshKey();
const CERTIFICATE = handMadeSshCertificate({ key: KEY });

const message = (number: number) => new SshWriter().u8(number);
const extension = (name: string) => message(27).string(name);

/** An answer's reader, after its length. */
function answerOf(bytes: Buffer): SshReader {
  const outer = new SshReader(bytes);
  const answer = new SshReader(outer.string());
  outer.end();
  return answer;
}

describe('parseAgentRequest', () => {
  const sign = (flags: number) => message(13).string(CERTIFICATE).string('data').u32(flags);
  const bind = (forwarding: number) =>
    extension('session-bind@openssh.com')
      .string('host')
      .string('session')
      .string('signature')
      .u8(forwarding);

  it('reads a request for identities', () => {
    assert.deepEqual(parseAgentRequest(Buffer.of(11)), { type: 'request-identities' });
  });

  const hashes = {
    0: undefined,
    1: undefined,
    2: 'rsa-sha2-256',
    4: 'rsa-sha2-512',
    6: 'rsa-sha2-256',
  };
  for (const [flags, rsa] of Object.entries(hashes)) {
    it(`reads a request to sign, with flags ${flags}`, () => {
      assert.deepEqual(parseAgentRequest(sign(Number(flags)).finish()), {
        type: 'sign',
        publicKey: CERTIFICATE,
        data: Buffer.from('data'),
        rsa,
      });
    });
  }

  for (const forwarding of [false, true]) {
    it(`reads what a connection is bound to, ${forwarding ? 'for forwarding' : 'to log in'}`, () => {
      assert.deepEqual(parseAgentRequest(bind(forwarding ? 1 : 0).finish()), {
        type: 'session-bind',
        hostKey: Buffer.from('host'),
        sessionId: Buffer.from('session'),
        signature: Buffer.from('signature'),
        forwarding,
      });
    });
  }

  it("reads OpenSSH's own binding, which verifies", () => {
    const request = parseAgentRequest(OPENSSH_SESSION_BIND);
    assert.ok(request.type === 'session-bind');
    const { key, type } = parseSshCertificate(request.hostKey);
    assert.equal(type, 'host');
    assert.equal(request.forwarding, false);
    assert.equal(verifySsh(key, request.sessionId, request.signature), true);
  });

  it('reads a query, and names the extensions it does not know', () => {
    assert.deepEqual(parseAgentRequest(extension('query').finish()), { type: 'query' });
    const unknown = extension('x@example.org').string('what?').finish();
    const other = { type: 'other', number: 27, extension: 'x@example.org' };
    assert.deepEqual(parseAgentRequest(unknown), other);
  });

  // Add, remove, lock, smartcards: an agent has to answer, not to grant.
  for (const number of [0, 1, 17, 18, 19, 20, 22, 23, 25, 26, 28, 255]) {
    it(`knows no message ${number}, whatever it holds`, () => {
      const bytes = message(number).raw(Buffer.alloc(100, 0xff)).finish();
      const other: AgentRequest = { type: 'other', number, extension: undefined };
      assert.deepEqual(parseAgentRequest(bytes), other);
    });
  }

  const refused: Record<string, readonly [SshWriter, RegExp]> = {
    nothing: [new SshWriter(), /ends too early/],
    'identities with bytes after': [message(11).u8(0), /bytes after the last value/],
    'a request to sign without flags': [message(13).string('k').string('d'), /ends too early/],
    'a request to sign with bytes after': [sign(0).u8(0), /bytes after the last value/],
    'a key over 64 KiB': [
      message(13).string(Buffer.alloc(65_537)).string('d').u32(0),
      /longer than 65536 bytes/,
    ],
    'an extension without a name': [message(27).string(''), /malformed name/],
    'an extension of two lines': [extension('a\nb'), /malformed name/],
    'a query with bytes after': [extension('query').u8(0), /bytes after the last value/],
    'a binding that is neither': [bind(2), /neither 0 nor 1/],
    'a binding with bytes after': [bind(1).u8(0), /bytes after the last value/],
    'a binding cut short': [extension('session-bind@openssh.com').string('h'), /ends too early/],
    'a binding to a session of 65 bytes': [
      extension('session-bind@openssh.com').string('h').string(Buffer.alloc(65)),
      /longer than 64 bytes/,
    ],
    'a binding with a signature of 5 KiB': [
      extension('session-bind@openssh.com').string('h').string('s').string(Buffer.alloc(5000)),
      /longer than 4096 bytes/,
    ],
  };
  for (const [what, [writer, expected]] of Object.entries(refused)) {
    it(`refuses ${what}`, () => {
      const parse = () => parseAgentRequest(writer.finish());
      assert.throws(parse, { code: 'SSH_INVALID', message: expected });
    });
  }
});

describe('the answers of an agent', () => {
  it('are failure and success of one byte', () => {
    assert.deepEqual(agentFailure(), Buffer.from('0000000105', 'hex'));
    assert.deepEqual(agentSuccess(), Buffer.from('0000000106', 'hex'));
  });

  it('list identities', () => {
    const comment = 'spiffe://example.org/web';
    const answer = answerOf(agentIdentities([{ publicKey: CERTIFICATE, comment }]));
    assert.equal(answer.u8(), 12);
    assert.equal(answer.u32(), 1);
    assert.deepEqual(answer.string(), CERTIFICATE);
    assert.equal(answer.text(), comment);
    answer.end();
    assert.deepEqual(agentIdentities([]), Buffer.from('000000050c00000000', 'hex'));
  });

  it('carry a signature', () => {
    const signature = signSsh(KEY, Buffer.of(1));
    const answer = answerOf(agentSignature(signature));
    assert.equal(answer.u8(), 14);
    assert.deepEqual(answer.string(), signature);
    answer.end();
  });

  it('name the extensions', () => {
    const answer = answerOf(agentExtensions());
    assert.equal(answer.u8(), 29);
    assert.deepEqual(
      [answer.text(), answer.text(), answer.text()],
      ['query', 'query', 'session-bind@openssh.com'],
    );
    answer.end();
  });
});

/** An agent of one key and its certificate, that signs whatever it is asked to. */
class ToyAgent implements AsyncDisposable {
  readonly requests: AgentRequest[] = [];
  readonly #server = net.createServer((socket) => {
    const frames = new AgentFrames();
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      frames.add(bytes);
      for (let one = frames.take(); one !== undefined; one = frames.take()) {
        socket.write(this.#answer(parseAgentRequest(one)));
      }
    });
  });

  async listen(path: string): Promise<void> {
    this.#server.listen(path);
    await once(this.#server, 'listening');
  }

  #answer(request: AgentRequest): Buffer {
    this.requests.push(request);
    switch (request.type) {
      case 'request-identities':
        return agentIdentities([
          { publicKey: CERTIFICATE, comment: 'certificate' },
          { publicKey: encodePublicKey(KEY), comment: 'plain' },
        ]);
      case 'sign':
        return agentSignature(signSsh(KEY, request.data));
      case 'query':
        return agentExtensions();
      default:
        return agentFailure();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    await once(this.#server, 'close');
  }
}

describe('OpenSSH', () => {
  let directory: string;

  before(function () {
    if (!hasProgram('ssh-add')) skipWithout(this, 'ssh-add');
    directory = mkdtempSync(join(tmpdir(), 'writ-ssh-'));
  });

  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  /** Runs a program that uses the agent; its failure is its output. */
  async function withAgent(agent: ToyAgent, file: string, ...args: string[]): Promise<string> {
    const path = join(
      directory,
      createHash('sha256').update(args.join()).digest('hex').slice(0, 8),
    );
    await agent.listen(path);
    const env = { ...process.env, SSH_AUTH_SOCK: path };
    const { stdout, stderr } = await run(file, args, { env });
    return stdout + stderr;
  }

  it('lists the identities of an agent: ssh-add', async () => {
    await using agent = new ToyAgent();
    const said = await withAgent(agent, 'ssh-add', '-L');
    const lines = [
      publicKeyLine(CERTIFICATE, 'certificate'),
      publicKeyLine(encodePublicKey(KEY), 'plain'),
    ];
    assert.equal(said, `${lines.join('\n')}\n`);
  });

  it('shows them by fingerprint: ssh-add', async () => {
    await using agent = new ToyAgent();
    const said = await withAgent(agent, 'ssh-add', '-l');
    const hash = fingerprint(encodePublicKey(KEY));
    const certificate = `256 ${hash} certificate (ED25519-CERT)`;
    assert.equal(said, `${certificate}\n256 ${hash} plain (ED25519)\n`);
  });

  it('has an agent sign, and takes the signature: ssh-keygen', async () => {
    await using agent = new ToyAgent();
    const [key, data] = [join(directory, 'key.pub'), join(directory, 'data')];
    writeFileSync(key, `${publicKeyLine(encodePublicKey(KEY))}\n`);
    writeFileSync(data, 'what is signed');
    await withAgent(agent, 'ssh-keygen', '-Y', 'sign', '-q', '-n', 'writ-test', '-f', key, data);
    assert.ok(agent.requests.some(({ type }) => type === 'sign'));
    const check = run('ssh-keygen', [
      '-Y',
      'check-novalidate',
      '-n',
      'writ-test',
      '-s',
      `${data}.sig`,
    ]);
    check.child.stdin?.end('what is signed');
    assert.match((await check).stdout, /^Good "writ-test" signature/);
  });

  it('bears to be refused: ssh-add', async () => {
    await using agent = new ToyAgent();
    await assert.rejects(withAgent(agent, 'ssh-add', '-D'), /Failed to remove all identities/);
    assert.ok(agent.requests.every(({ type }) => type === 'other'));
  });
});
