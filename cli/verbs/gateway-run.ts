import { runVerb } from '../run-verb.ts';

export const gatewayRun = runVerb(
  'gateway',
  'Run the gateway until it is told to stop',
  async () => {
    const { loadGatewayConfig, runGateway } = await import('../../gateway/main.ts');
    return { load: loadGatewayConfig, run: runGateway };
  },
);
