import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTrustDomain, SpiffeId } from '../../identity/spiffe-id.ts';
import { systemClock } from '../../runtime/clock.ts';
import { FakeAuthority } from '../../test/fakes/fake-authority.ts';
import { AgentState } from './agent-state.ts';

const td = parseTrustDomain('example.org');
const AGENT = SpiffeId.parse('spiffe://example.org/spire/agent/join_token/jt-1');

describe('AgentState', () => {
  let directory: string;
  let state: AgentState;
  let authority: FakeAuthority;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'writ-state-'));
    state = new AgentState(join(directory, 'agent'));
    await state.prepare();
    authority = await FakeAuthority.create(td);
  });
  afterEach(() => rm(directory, { recursive: true }));

  const save = async () => {
    const svid = await authority.issue(AGENT, { ttlMs: 60_000 });
    await state.saveBundle(authority.bundle.value);
    await state.saveSvid(svid);
    return svid;
  };
  const at = (milliseconds: number) => ({
    ...systemClock,
    now: () => new Date(Date.now() + milliseconds),
  });

  it('gives back what it was given', async () => {
    assert.equal(await state.load(td, systemClock), undefined);
    const svid = await save();
    const kept = await state.load(td, systemClock);
    assert.equal(kept?.svid.serial, svid.serial);
    assert.ok(kept?.svid.privateKey.equals(svid.privateKey));
    assert.equal(kept?.bundle.x509Authorities.length, 1);
    assert.deepEqual(
      kept?.bundle.jwtAuthorities.map(({ keyId }) => keyId),
      ['jwt-1'],
    );
  });

  it('forgets an SVID that has expired or was deleted', async () => {
    await save();
    assert.equal(await state.load(td, at(61_000)), undefined);
    await state.deleteSvid();
    await state.deleteSvid();
    assert.equal(await state.load(td, systemClock), undefined);
  });

  it('refuses files that are damaged, or of another authority', async () => {
    await save();
    await state.saveBundle((await FakeAuthority.create(td)).bundle.value);
    await assert.rejects(state.load(td, systemClock), { code: 'STATE_UNUSABLE' });
    await save();
    await writeFile(join(directory, 'agent', 'agent-svid.json'), '{"certificates": ""}');
    await assert.rejects(state.load(td, systemClock), { code: 'STATE_UNUSABLE' });
  });

  it('refuses a directory that it cannot make', async () => {
    await writeFile(join(directory, 'file'), '');
    const below = new AgentState(join(directory, 'file', 'agent'));
    await assert.rejects(below.prepare(), { code: 'STATE_UNUSABLE' });
  });
});
