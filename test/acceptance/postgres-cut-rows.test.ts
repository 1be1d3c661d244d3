/** G25: a backend that is lost in the middle of a row that is to be masked. */
import assert from 'node:assert/strict';
import { leaksIn } from '../corpus/leak-forms.ts';
import { GatewayEnforced } from '../fixtures/gateway-enforced.ts';
import { POSTGRES_VERSIONS, postgresTitle, requirePostgres } from '../fixtures/postgres.ts';
import { bind, execute, parse, query, sync } from '../fixtures/relay-world.ts';
import { SECRETS, SHOP_SQL, shopGrant } from '../fixtures/shop-database.ts';
import { TamperingRelay } from '../fixtures/tampering-relay.ts';
import { errorOf, typesOf, WireClient } from '../fixtures/wire-client.ts';

/** The row does not fit into what the database sends at once, and begins with the value. */
const WIDE = `select ssn, repeat('y', 200000) as filler, email from customers order by id`;
/** Where the connection ends, in bytes from the value's own beginning. */
const CUTS = [-5, 0, 3, SECRETS.ssn.length, 4000];

for (const version of POSTGRES_VERSIONS) {
  describe(`G25 the wire mask before ${postgresTitle(version)}`, () => {
    let relay: TamperingRelay;
    let world: GatewayEnforced;
    before(async function () {
      this.timeout(60_000);
      requirePostgres(this, version);
      world = await GatewayEnforced.start({
        ...{ version, sql: SHOP_SQL, grant: shopGrant('cut-off') },
        async relay(port) {
          relay = await TamperingRelay.before(port);
          return relay.port;
        },
      });
    });
    after(async () => {
      await world?.[Symbol.asyncDispose]();
      await relay?.[Symbol.asyncDispose]();
    });

    /** Ends the backend's connection that many bytes behind the beginning of the value. */
    function cutAt(offset: number): void {
      relay.tamper = (bytes) => {
        const at = bytes.indexOf(SECRETS.ssn);
        if (at < 0) return bytes;
        relay.tamper = () => 'reset';
        return bytes.subarray(0, Math.min(at + offset, bytes.length));
      };
    }

    const protocols = {
      simple: [query(WIDE)],
      extended: [parse('', WIDE), bind(''), execute(), sync()],
    };
    for (const [protocol, bytes] of Object.entries(protocols)) {
      it(`hands on nothing of a row that never ends, in the ${protocol} protocol`, async () => {
        for (const offset of CUTS) {
          using client = await WireClient.ready(world.wire.port, world.wire.tls);
          cutAt(offset);
          client.send(...bytes);
          const answer = await client.rest();
          relay.tamper = undefined;
          assert.ok(!typesOf(answer).includes('D'), `cut at ${offset}: ${typesOf(answer)}`);
          assert.equal(errorOf(answer)?.sqlstate, '08006', `cut at ${offset}`);
          assert.deepEqual(leaksIn(Buffer.concat(answer.map(({ body }) => body))), []);
        }
      });
    }

    it('masks the same row where it comes to its end', async () => {
      using client = await WireClient.ready(world.wire.port, world.wire.tls);
      client.send(query(WIDE));
      const answer = await client.until('Z');
      const got = Buffer.concat(answer.map(({ body }) => body));
      assert.ok(got.includes(SECRETS.ssn.slice(-4)));
      assert.deepEqual(leaksIn(got), []);
    });
  });
}
