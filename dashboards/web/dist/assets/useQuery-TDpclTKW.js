import{C as r,z as u}from"./refusal-CHU4vQvE.js";function a(e,s){return r(u,e)}export{a as u};
