import assert from 'node:assert/strict';
import { SpiffeId } from '../../../../identity/spiffe-id.ts';
import { Fault } from '../../../../runtime/fault.ts';
import { createLogger } from '../../../../runtime/log.ts';
import type { SessionPeer } from '../../../session/session-desk.ts';
import { Authentication } from './authenticate.ts';
import { NO_CERTIFICATE } from './prove-client.ts';
import type { PublicKeyAttempt } from './ssh2-server.ts';

const PROOF = { signedData: new Uint8Array([1]), signature: new Uint8Array([2]) };
const PEER: SessionPeer = {
  id: SpiffeId.parse('spiffe://example.org/web'),
  serial: '1',
  notAfter: new Date(),
  proof: { case: 'ssh', certificate: new Uint8Array(), ...PROOF },
};

describe('Authentication', () => {
  let refused: string[];
  let admitted: string[];
  let prove: () => SessionPeer | undefined;
  let admit: (user: string) => Promise<void>;
  let authentication: Authentication;
  beforeEach(() => {
    refused = [];
    admitted = [];
    prove = () => PEER;
    admit = async (user) => {
      admitted.push(user);
    };
    authentication = new Authentication({
      prove: () => prove(),
      admit: (user) => admit(user),
      refused: (reason) => refused.push(reason),
      log: createLogger({ process: 'gateway', level: 'silent' }),
    });
  });

  const attempt = (user = 'deploy'): PublicKeyAttempt => ({
    user,
    algorithm: 'ssh-ed25519-cert-v01@openssh.com',
    publicKey: new Uint8Array(),
    proof: PROOF,
  });
  const invalid = (message: string) => () => {
    throw new Fault('SSH_INVALID', message);
  };

  it('admits who has proved itself', async () => {
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: true });
    assert.deepEqual([admitted, refused], [['deploy'], []]);
  });

  it('tells who only asks that its key would do, and admits nobody', async () => {
    prove = () => undefined;
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: true });
    assert.deepEqual(admitted, []);
  });

  it('refuses what proves nothing without a word to the client, with one event', async () => {
    prove = invalid('SSH certificate: expired');
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: false });
    assert.deepEqual([admitted, refused], [[], ['SSH certificate: expired']]);
  });

  it('makes no event of a plain key, which clients offer beside their certificate', async () => {
    prove = invalid(NO_CERTIFICATE);
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: false });
    assert.equal(authentication.onlyPlainKeys, true);
    prove = () => PEER;
    await authentication.authenticate(attempt());
    assert.deepEqual([refused, authentication.onlyPlainKeys], [[], false]);
  });

  it('tells who has proved itself why it is not admitted, and lets it try again', async () => {
    admit = async () => {
      throw new Fault('PERMISSION_DENIED', 'no grant');
    };
    const answer = { accepted: false, banner: 'writ: no grant\n' };
    assert.deepEqual(await authentication.authenticate(attempt()), answer);
    admit = async () => {};
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: true });
  });

  it('tells nothing of a defect', async () => {
    admit = async () => {
      throw new Error('at line 7');
    };
    const answer = { accepted: false, banner: 'writ: internal error\n' };
    assert.deepEqual(await authentication.authenticate(attempt()), answer);
    prove = () => {
      throw new Error('at line 8');
    };
    assert.deepEqual(await authentication.authenticate(attempt()), { accepted: false });
    assert.deepEqual(refused, ['internal error']);
  });

  it('admits once, however many attempts come at once', async () => {
    const attempts = ['a', 'b', 'c'].map((user) => authentication.authenticate(attempt(user)));
    assert.deepEqual(
      (await Promise.all(attempts)).map(({ accepted }) => accepted),
      [true, false, false],
    );
    assert.deepEqual(admitted, ['a']);
  });

  it('admits nobody once it is closed, and closes when nothing is under way', async () => {
    let open: () => void = () => {};
    admit = (user) =>
      new Promise((resolve) => {
        admitted.push(user);
        open = resolve;
      });
    const first = authentication.authenticate(attempt('first'));
    const second = authentication.authenticate(attempt('second'));
    await new Promise((resolve) => setImmediate(resolve));
    let isClosed = false;
    const closing = authentication.close().then(() => {
      isClosed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isClosed, false);
    open();
    await closing;
    assert.deepEqual([await first, await second], [{ accepted: true }, { accepted: false }]);
    assert.deepEqual(admitted, ['first']);
  });
});
