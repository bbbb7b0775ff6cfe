//# allFunctionsCalledOnLoad
import{ae as u}from"./start-CflulvJJ.js";function n(){const e=u();return(...r)=>Promise.all(r.map(a=>e.invalidateQueries({queryKey:[a]})))}export{n as u};
