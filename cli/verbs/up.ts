import { Fault } from '../../runtime/fault.ts';
import { defaultStateDir } from '../admin-connection.ts';
import { readPlan } from '../up/plan.ts';
import { textFlag, type Verb } from '../verb.ts';

export const up: Verb = {
  path: ['up'],
  positionals: [],
  summary: 'Run server, agent, gateway and a demo database, and show a workload using them',
  options: {
    state: { type: 'string' },
    'port-base': { type: 'string' },
    'trust-domain': { type: 'string', default: 'example.org' },
    ttl: { type: 'string', default: '1h' },
    'gateway-workers': { type: 'string', default: '1' },
    'no-sample': { type: 'boolean', default: false },
  },
  async run(flags, io) {
    if (process.platform !== 'linux') throw new Fault('STATE_UNUSABLE', 'writ up needs Linux');
    const plan = readPlan(flags);
    // What it needs would slow every other command down.
    const { runUp } = await import('../up/run-up.ts');
    await runUp(plan, textFlag(flags, 'state') ?? defaultStateDir(), io);
  },
};
