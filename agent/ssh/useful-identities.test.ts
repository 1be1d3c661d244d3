import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import { ListSshTargetsResponseSchema } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import { FakeClock } from '../../test/fakes/fake-clock.ts';
import type { Identity } from '../svid/cache.ts';
import { UsefulIdentities } from './useful-identities.ts';

function identity(id: string): Identity {
  const spiffeId = SpiffeId.parse(`spiffe://example.org/${id}`);
  const rest = {
    hint: '',
    revision: 0n,
    createdAt: 0n,
    federatesWith: [],
    onDemand: false,
    freshJwt: false,
  };
  return {
    entry: { id, spiffeId, selectors: ['unix:uid:0'], ...rest },
    svid: undefined,
    lack: undefined,
  };
}

const IDENTITIES = ['a', 'b', 'c', 'd'].map(identity);

describe('UsefulIdentities', () => {
  const setUp = () => {
    const clock = new FakeClock();
    const asked: string[] = [];
    let answer: readonly string[] | Fault = [];
    const useful = new UsefulIdentities({
      clock,
      server: {
        async targets(entries) {
          asked.push(entries.map(({ id }) => id).join());
          if (answer instanceof Fault) throw answer;
          const spiffeIds = answer.map((id) => `spiffe://example.org/${id}`);
          return create(ListSshTargetsResponseSchema, {
            targets: [{ backend: 'x' }, { spiffeIds }],
          });
        },
      },
    });
    const first = async (identities: readonly Identity[] = IDENTITIES) =>
      (await useful.first(identities)).map(({ entry }) => entry.id).join('');
    const say = (next: readonly string[] | Fault) => {
      answer = next;
    };
    return { clock, asked, first, say };
  };

  it('puts those first that open something, and changes nothing else', async () => {
    const { first, say } = setUp();
    say(['d', 'b', 'stranger']);
    assert.equal(await first(), 'bdac');
  });

  it('leaves the order as it is where nothing opens, or the server cannot tell', async () => {
    const { clock, first, say } = setUp();
    assert.equal(await first(), 'abcd');
    say(new Fault('UNAVAILABLE', 'away'));
    await clock.advance(1000);
    assert.equal(await first(), 'abcd');
  });

  it('asks once a second at most, whether the server can tell or not', async () => {
    const { clock, asked, first, say } = setUp();
    for (const next of [['c'], new Fault('UNAVAILABLE', 'away')]) {
      say(next);
      asked.length = 0;
      await Promise.all([first(), first()]);
      await first();
      assert.deepEqual(asked, ['a,b,c,d']);
      await clock.advance(1000);
    }
    say(['c']);
    assert.equal(await first(), 'cabd');
  });

  it('keeps the answers for other identities apart', async () => {
    const { asked, first, say } = setUp();
    say(['b']);
    assert.equal(await first(), 'bacd');
    say(['c']);
    assert.equal(await first(IDENTITIES.slice(1)), 'cbd');
    assert.equal(asked.length, 2);
  });

  it('asks nothing where there is nothing to order', async () => {
    const { asked, first } = setUp();
    assert.deepEqual([await first([]), await first(IDENTITIES.slice(1, 2)), asked], ['', 'b', []]);
  });
});
