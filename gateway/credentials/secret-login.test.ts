import assert from 'node:assert/strict';
import { RpcError } from '../../runtime/grpc-client.ts';
import { createLogger } from '../../runtime/log.ts';
import { Watched } from '../../runtime/watched.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import { EMPTY_SNAPSHOT } from '../access/snapshot.ts';
import { lent } from './login-source.ts';
import { SecretLogin } from './secret-login.ts';

const { signal } = new AbortController();

/** The server's vault, as one backend's gateway sees it. */
class Vault {
  readonly snapshot = new Watched(EMPTY_SNAPSHOT);
  readonly fetched: string[] = [];
  current = { user: 'a', password: 'one', version: 1n };
  previous: { user: string; password: string; version: bigint } | undefined;
  isAway = false;

  readonly api = () => ({
    fetchLogin: async ({ previous = false }) => {
      this.fetched.push(previous ? 'previous' : 'current');
      if (this.isAway) throw new RpcError('UNAVAILABLE', 'away');
      const answer = previous ? this.previous : this.current;
      if (answer === undefined) throw new RpcError('NOT_FOUND', 'no such version');
      return { $typeName: 'writ.gateway.v1.FetchLoginResponse' as const, ...answer };
    },
  });

  /** Puts a version, and tells of it. */
  put(password: string, user = 'a'): void {
    this.previous = this.current;
    this.current = { user, password, version: this.current.version + 1n };
    this.tell();
  }

  tell(): void {
    const logins = new Map([['shop', this.current.version]]);
    this.snapshot.set({ ...EMPTY_SNAPSHOT, logins });
  }
}

describe('SecretLogin', () => {
  let vault: Vault;
  let clock: FakeClock;
  let login: SecretLogin;
  beforeEach(() => {
    vault = new Vault();
    clock = new FakeClock(new Date());
    const log = createLogger({ process: 'gateway', level: 'silent' });
    vault.tell();
    login = new SecretLogin({ backend: 'shop', ...vault, clock, log });
  });
  afterEach(() => login[Symbol.asyncDispose]());

  const password = async () => (await login.current(signal)).password;

  it('fetches once, whoever asks, until the server tells of another version', async () => {
    assert.deepEqual(await Promise.all([password(), password()]), ['one', 'one']);
    await password();
    assert.deepEqual(vault.fetched, ['current']);
    vault.put('two');
    assert.equal(await password(), 'two');
    assert.deepEqual(vault.fetched, ['current', 'current']);
  });

  it('leaves connections of the version before, and tells those that are not in use', async () => {
    const left: string[] = [];
    const first = await login.current(signal);
    const stop = login.onOver(() => void left.push('own'));
    lent(login).onOver?.(() => void left.push('lent'));
    assert.equal(login.isOver(first), false);
    vault.put('two', 'b');
    assert.equal(login.isOver(first), true);
    const second = await login.current(signal);
    assert.deepEqual([second.user, login.isOver(first), login.isOver(second)], ['b', true, false]);
    assert.ok(left.includes('own') && left.includes('lent'));
    stop();
    left.length = 0;
    vault.put('three');
    await password();
    assert.ok(!left.includes('own') && left.includes('lent'));
  });

  it('fetches again what the backend refuses, though not with each client that comes', async () => {
    const refused = await login.current(signal);
    vault.current = { user: 'a', password: 'two', version: 2n };
    login.rejected(refused);
    const next = await login.current(signal);
    assert.equal(next.password, 'two');
    login.rejected(next);
    assert.equal(await login.current(signal), next, 'less than a second later');
    assert.deepEqual(vault.fetched, ['current', 'current']);
    await clock.advance(1000);
    assert.equal(await login.current(signal), next, 'there is no other');
    assert.deepEqual(vault.fetched.slice(2), ['current', 'previous']);
    login.accepted(next);
    await clock.advance(1000);
    await password();
    assert.equal(vault.fetched.length, 4);
  });

  it('tries the version before where the backend has not been given the current one', async () => {
    vault.put('two');
    const refused = await login.current(signal);
    assert.equal(refused.password, 'two');
    login.rejected(refused);
    const previous = await login.current(signal);
    assert.equal(previous.password, 'one');
    login.accepted(previous);
    assert.equal(login.isOver(previous), false);
    assert.equal(await login.current(signal), previous);
    await clock.advance(1000);
    login.rejected(previous);
    assert.equal(await password(), 'two');
  });

  it('goes on with the last one while the server is away', async () => {
    await password();
    vault.put('two');
    vault.isAway = true;
    assert.equal(await password(), 'one');
    assert.equal(await password(), 'one');
    assert.equal(vault.fetched.length, 2, 'a fetch that failed is not repeated at once');
    vault.isAway = false;
    await clock.advance(5000);
    assert.equal(await password(), 'two');
  });

  it('has none while the server has not answered once', async () => {
    vault.isAway = true;
    await assert.rejects(password(), { code: 'UNAVAILABLE', message: /cannot be fetched/ });
  });

  it('ends', async () => {
    await password();
    await login[Symbol.asyncDispose]();
    vault.put('two');
    const left = AbortSignal.abort(new Error('left'));
    await assert.rejects(login.current(left), { message: 'left' });
  });
});
