// CPU wheels of torch lack this file, which torch's build generates. Nothing needs to be defined here.
#pragma once
