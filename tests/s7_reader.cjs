// Reads words of a data block with nodes7 and prints them as JSON: node s7_reader.cjs PORT DB WORD COUNT
const Plc = require('nodes7')

const [port, block, word, count] = process.argv.slice(2).map(Number)
const plc = new Plc({ silent: true })

function fail (error) {
  console.error(error)
  process.exit(1)
}

plc.initiateConnection({ host: '127.0.0.1', port, rack: 0, slot: 1, timeout: 3000 }, error => {
  if (error) fail(error)
  plc.addItems(`DB${block},WORD${2 * word}.${count}`)
  plc.readAllItems((bad, values) => {
    if (bad) fail(JSON.stringify(values))
    console.log(JSON.stringify(Object.values(values)[0]))
    plc.dropConnection(() => process.exit(0))
  })
})
