// A vision system by node-opcua, of the OPC Foundation's nodeset: another maker's, as far as our client can tell.
//
// Arguments: one JSON object {port}. It prints one line "ready", then answers each line on its standard input by one line: {state: name},
// {automatic: name} enter a state and tell of it, {result: id, content} tells that a result is ready, {calls: true} gives the methods called.
"use strict";
const readline = require("readline");
const opcua = require("node-opcua");
const { nodesets } = require("node-opcua-nodesets");

console.log = console.warn = console.error; // standard output is for answers alone
const answer = (line) => process.stdout.write(`${line}\n`);
const options = JSON.parse(process.argv[2]);
const { DataType, StatusCodes, VariantArrayType } = opcua;

async function serve() {
  const server = new opcua.OPCUAServer({
    port: options.port,
    hostname: "127.0.0.1",
    nodeset_filename: [nodesets.standard, nodesets.machineVision],
    securityModes: [opcua.MessageSecurityMode.None],
    securityPolicies: [opcua.SecurityPolicy.None],
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const vision = space.getNamespaceIndex("http://opcfoundation.org/UA/MachineVision");
  const own = space.registerNamespace("urn:another:maker");
  const cell = own.addObject({ organizedBy: space.rootFolder.objects, browseName: "Cell" });
  const system = space.findObjectType("VisionSystemType", vision).instantiate({
    componentOf: cell,
    browseName: "Eye",
    eventSourceOf: space.rootFolder.objects.server,
    optionals: ["VisionStateMachine.AutomaticModeStateMachine", "RecipeManagement", "ResultManagement"],
  });
  system.setEventNotifier(1);
  const child = (node, name) => node.getChildByName(name, vision);
  const machine = child(system, "VisionStateMachine");
  const automatic = child(machine, "AutomaticModeStateMachine");
  const recipes = child(system, "RecipeManagement");
  const make = (type, value) => space.constructExtensionObject(space.findDataType(type, vision), value);
  const structure = (type, value) => ({ dataType: DataType.ExtensionObject, value: make(type, value) });
  const calls = [];
  const bind = (owner, name, outputs) =>
    child(owner, name).bindMethod((given, _context, callback) => {
      calls.push([name, ...given.map((one) => (one.value && one.value.id !== undefined ? one.value.id : one.value))]);
      callback(null, outputs(given));
    });
  const good = (...outputArguments) => ({ statusCode: StatusCodes.Good, outputArguments });
  const int32 = (value) => ({ dataType: DataType.Int32, value });
  bind(automatic, "Stop", (given) => good(int32(given[0].value === 99 ? -7 : 0)));
  bind(automatic, "StartContinuous", () => good(structure("JobIdDataType", { id: "job-1" }), int32(0)));
  bind(machine, "Halt", () => ({ statusCode: StatusCodes.BadUserAccessDenied }));
  bind(recipes, "GetRecipeListFiltered", () =>
    good(
      { dataType: DataType.Boolean, value: true },
      { dataType: DataType.UInt32, value: 1 },
      { dataType: DataType.UInt32, value: 0 },
      { dataType: DataType.ExtensionObject, arrayType: VariantArrayType.Array, value: [make("RecipeIdInternalDataType", { id: "lid" })] },
      int32(0),
    ),
  );
  const enter = (node, from, to) => {
    const text = (value) => ({ dataType: DataType.LocalizedText, value: { text: value } });
    node.getChildByName("CurrentState").setValueFromSource(text(to));
    system.raiseEvent(space.findEventType("StateChangedEventType", vision), {
      message: text(`${from}To${to}`),
      severity: { dataType: DataType.UInt16, value: 100 },
      fromState: text(from),
      toState: text(to),
      transition: text(`${from}To${to}`),
    });
  };
  let [state, mode] = ["Preoperational", ""];
  const commands = {
    state: (asked) => { enter(machine, state, asked.state); state = asked.state; },
    automatic: (asked) => { enter(automatic, mode, asked.automatic); mode = asked.automatic; },
    result: ({ result, content }) =>
      system.raiseEvent(space.findEventType("ResultReadyEventType", vision), {
        message: { dataType: DataType.LocalizedText, value: { text: "result" } },
        severity: { dataType: DataType.UInt16, value: 200 },
        resultId: structure("ResultIdDataType", { id: result }),
        isPartial: { dataType: DataType.Boolean, value: false },
        resultState: int32(1),
        creationTime: { dataType: DataType.DateTime, value: new Date("2024-05-06T07:08:09Z") },
        resultContent: { dataType: DataType.Variant, arrayType: VariantArrayType.Array, value: content.map((value) => new opcua.Variant({ dataType: DataType.String, value })) },
      }),
    calls: () => calls,
  };
  await server.start();
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const asked = JSON.parse(line);
    answer(JSON.stringify(commands[Object.keys(asked)[0]](asked) || null));
  }).on("close", () => process.exit(0));
  answer("ready");
}

serve().catch((error) => {
  console.error(error);
  process.exit(1);
});
